"""`huibo rate`: what calls cost, by plans and beginnings of numbers. Prices are in yuan."""

from __future__ import annotations

from typing import Annotated

import typer

from huibo import yuan
from huibo.cli import changes
from huibo.cli.output import AsJson, print_json, say, table
from huibo.cli.store import change, every
from huibo.office import rates
from huibo.office.rates import Rate

commands = typer.Typer(no_args_is_help=True)

_ALL = "all"
Prefix = Annotated[str, typer.Argument(help="What the numbers begin with: 138, 010, +86; all: every number.")]
Plan = Annotated[str, typer.Option(help="The plan that it belongs to; apps name one as their rate-plan.")]


@commands.command("add")
def add(
    prefix: Prefix,
    per_minute: Annotated[str, typer.Argument(help="The price of a minute in yuan, e.g. 0.12.")],
    plan: Plan = "default",
    first_s: Annotated[int | None, typer.Option(help="Billed at least; default: 60.")] = None,
    next_s: Annotated[int | None, typer.Option(help="And then in steps of; default: 60.")] = None,
    setup: Annotated[str | None, typer.Option(help="On top for each answered leg, in yuan.")] = None,
    note: Annotated[str | None, typer.Option(help="For people.")] = None,
) -> None:
    """Add a rate, or replace the one of that prefix. Calls under way keep theirs."""
    words = [f"per-minute={per_minute}", f"setup={setup or ''}"]
    given = {"plan": plan, "prefix": _prefix(prefix), "first_s": first_s, "next_s": next_s, "note": note}
    rate = change(rates.put, changes.read(Rate, words, given))
    say(f"rate {rate.plan}/{rate.prefix or _ALL}: {yuan.shown(rate.per_minute)} yuan a minute")


@commands.command("list")
def list_(
    plan: Annotated[str | None, typer.Option(help="Only those of this plan.")] = None, as_json: AsJson = False
) -> None:
    """List the rates by plan and prefix."""
    found = every(lambda connection, after, limit: rates.page(connection, plan, after, limit))
    if as_json:
        print_json([rate.model_dump(mode="json") for rate in found])
        return
    table(
        ("plan", "prefix", "a minute", "first", "next", "setup", "note"),
        [
            (
                *(r.plan, r.prefix or _ALL, yuan.shown(r.per_minute), f"{r.first_s} s", f"{r.next_s} s"),
                *(yuan.shown(r.setup), r.note),
            )
            for r in found
        ],
    )


@commands.command("remove")
def remove(prefix: Prefix, plan: Plan = "default") -> None:
    """Remove a rate."""
    key = changes.read(Rate, [], {"plan": plan, "prefix": _prefix(prefix), "per_minute": 0})
    change(rates.remove, key.plan, key.prefix)
    say(f"rate {key.plan}/{key.prefix or _ALL} removed")


def _prefix(text: str) -> str:
    return "" if text == _ALL else text
