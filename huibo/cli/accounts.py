"""`huibo account`: what apps have paid and used. Amounts are in yuan; in JSON in 1/1000 fen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Connection

from huibo import yuan
from huibo.cli import changes
from huibo.cli.output import AsJson, Failed, clock_time, one, print_json, say, table
from huibo.cli.store import After, Limit, change, listed, read
from huibo.office import accounts
from huibo.office.accounts import Account, Adjustment, Credit
from huibo.office.statement import statement

commands = typer.Typer(no_args_is_help=True)

Amount = Annotated[str, typer.Argument(help="In yuan, e.g. 100 or 0.12345.")]


@commands.command("show")
def show(app_id: str, as_json: AsJson = False) -> None:
    """Show the balance of an app."""
    _show(read(accounts.show, app_id), as_json)


@commands.command("credit")
def credit(
    app_id: str,
    amount: Amount,
    reason: Annotated[str | None, typer.Option(help="E.g. the number of a receipt.")] = None,
    as_json: AsJson = False,
) -> None:
    """Pay an amount in."""
    paid = changes.read(Credit, [], {"amount": _amount(amount), "reason": reason})
    _show(change(accounts.credit, app_id, paid), as_json)


# a negative amount is not an option
@commands.command("adjust", context_settings={"ignore_unknown_options": True})
def adjust(
    app_id: str,
    amount: Annotated[str, typer.Argument(help="In yuan; -5 takes away.")],
    reason: Annotated[str, typer.Option(help="Why: it stays in the ledger.")],
    as_json: AsJson = False,
) -> None:
    """Change the balance by hand."""
    by = changes.read(Adjustment, [], {"amount": _amount(amount), "reason": reason})
    _show(change(accounts.adjust, app_id, by), as_json)


@commands.command("ledger")
def ledger(app_id: str, limit: Limit = 50, after: After = None, as_json: AsJson = False) -> None:
    """List all that moved the balance or was held of it, the newest first."""
    found = listed(
        lambda connection, behind, most: accounts.ledger(connection, app_id, behind, most), limit, after
    )
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in found])
        return
    table(
        ("time", "what", "amount", "balance", "held", "call", "author", "reason"),
        [
            (
                *(clock_time(e.at), e.kind.value, yuan.shown(e.amount), yuan.shown(e.balance)),
                *(yuan.shown(e.held), e.call_id, e.author, e.reason),
            )
            for e in found
        ],
    )


@commands.command("statement")
def month(
    app_id: str,
    month: Annotated[str, typer.Argument(help="Like 2026-11, in the app's time zone.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; default: the screen.")
    ] = None,
) -> None:
    """A month of an account as CSV: balance before, what moved it, balance after."""

    def work(connection: Connection) -> None:
        lines = statement(connection, app_id, month)
        if output is None:
            sys.stdout.writelines(lines)
            return
        with output.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)

    try:
        read(work)
    except OSError as error:
        raise Failed(f"{output}: {error.strerror}") from error
    if output is not None:
        say(f"{output} written")


def _amount(text: str) -> int:
    try:
        return yuan.parse(text)
    except ValueError as error:
        raise Failed(f"{text}: {error}") from None


def _show(account: Account, as_json: bool) -> None:
    if as_json:
        print_json(account.model_dump())
        return
    amounts = {name: yuan.shown(value) for name, value in account.model_dump(exclude={"app_id"}).items()}
    one({"app": account.app_id} | amounts)
