"""`huibo token`: who may use the operators' API. A token is shown once, when it is made."""

from __future__ import annotations

from typing import Annotated

import typer

from huibo.cli import changes
from huibo.cli.output import AsJson, clock_time, hint, print_json, say, table
from huibo.cli.store import author, change, every
from huibo.office import tokens
from huibo.office.tokens import NewToken, Token
from huibo.storage.tokens import Role

commands = typer.Typer(no_args_is_help=True)

_DAY_MS = 24 * 3600_000


@commands.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Whose it is, or for what.")],
    role: Annotated[
        Role, typer.Option(help="viewer sees, operator changes and calls, admin moves money too.")
    ],
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="How long it is valid; default: always.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and show it, this once."""
    expires_at = None if days is None else author().at + days * _DAY_MS
    given = {"name": name, "role": role, "expires_at": expires_at}
    made = change(tokens.make, changes.read(NewToken, [], given))
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    say(made.token)
    hint(f"token {made.id}: keep it well, it is not shown again")


@commands.command("list")
def list_(
    every_one: Annotated[bool, typer.Option("--all", help="Also those that are valid no longer.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the tokens, the newest first."""
    now = author().at
    found = [token for token in every(tokens.page) if every_one or _valid(token, now)]
    if as_json:
        print_json([token.model_dump(mode="json") for token in found])
        return
    table(
        ("id", "name", "role", "made", "expires", "revoked"),
        [
            (t.id, t.name, t.role.value, *map(clock_time, (t.created_at, t.expires_at, t.revoked_at)))
            for t in found
        ],
    )


@commands.command("revoke")
def revoke(token_id: Annotated[str, typer.Argument(help="The id that `huibo token list` shows.")]) -> None:
    """Make a token invalid at once."""
    change(tokens.revoke, token_id)
    say(f"token {token_id} revoked")


def _valid(token: Token, now: int) -> bool:
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > now)
