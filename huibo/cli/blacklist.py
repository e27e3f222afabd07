"""`huibo blacklist`: numbers that are not called, or do not call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from huibo.cli import changes
from huibo.cli.output import AsJson, Failed, clock_time, complain, hint, print_json, say, table
from huibo.cli.store import After, Limit, author, change, database, listed
from huibo.office import blacklist
from huibo.office.blacklist import Kind, Listed
from huibo.office.blacklist_import import Import, expiry, import_csv
from huibo.storage.blacklist import Direction

commands = typer.Typer(no_args_is_help=True)

Number = Annotated[str, typer.Argument(help="13800138000, 01088880000, +86…; with --prefix how they begin.")]
Prefix = Annotated[bool, typer.Option("--prefix", help="All numbers that begin so, not that one alone.")]
OfApp = Annotated[str | None, typer.Option(help="For this app alone; default: for all.")]
As = Annotated[Direction, typer.Option("--as", help="As which party it is unwanted.")]


@commands.command("add")
def add(
    number: Number,
    prefix: Prefix = False,
    app: OfApp = None,
    direction: As = Direction.BOTH,
    expires: Annotated[
        str | None, typer.Option(help="2026-12-31 or 2026-12-31T18:00; default: never.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="For people.")] = None,
) -> None:
    """Add a number, or the beginning of numbers; replaces the entry that there was."""
    try:
        until = expiry(expires or "")
    except ValueError as error:
        raise Failed(str(error)) from None
    given = _key(number, prefix, app, direction) | {"expires_at": until, "reason": reason}
    entry = change(blacklist.put, changes.read(Listed, [], given))
    say(f"blacklist {entry.subject} added")


@commands.command("remove")
def remove(number: Number, prefix: Prefix = False, app: OfApp = None, direction: As = Direction.BOTH) -> None:
    """Remove the entry of that number, kind, app and party."""
    key = changes.read(Listed, [], _key(number, prefix, app, direction))
    change(blacklist.remove, key)
    say(f"blacklist {key.subject} removed")


@commands.command("list")
def list_(
    number: Annotated[str | None, typer.Option(help="Only what concerns numbers that begin so.")] = None,
    app: Annotated[str | None, typer.Option(help="Only those of this app.")] = None,
    everybodys: Annotated[bool, typer.Option("--global", help="Only those for all apps.")] = False,
    direction: Annotated[Direction | None, typer.Option("--as", help="Only those of this kind.")] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """List entries by number."""
    of_app = "" if everybodys else app
    found = listed(
        lambda connection, behind, most: blacklist.page(connection, of_app, direction, number, behind, most),
        limit,
        after,
    )
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in found])
        return
    table(
        ("number", "kind", "as", "app", "expires", "reason"),
        [
            (e.number, e.kind.value, e.direction.value, e.app or "all", clock_time(e.expires_at), e.reason)
            for e in found
        ],
    )


@commands.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV in UTF-8; its first line names the columns.")],
    as_json: AsJson = False,
) -> None:
    """Add the entries of a CSV file: number, and as you like kind (exact, prefix), direction (caller, callee,
    both), app, expires, reason. Calls go on being admitted meanwhile."""
    done = Import()
    try:
        _import(file, done)
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from error
    except (Failed, KeyboardInterrupt) as error:
        why = str(error) or "interrupted"
        stays = f"; {done.taken} were taken and stay: run it again for the rest" if done.taken else ""
        raise Failed(f"{file}: {why}{stays}") from None
    if as_json:
        problems = [{"line": line, "message": message} for line, message in done.problems]
        print_json({"taken": done.taken, "refused": done.refused, "problems": problems})
    else:
        say(f"{done.taken} taken, {done.refused} refused")
    for line, message in () if as_json else done.problems:
        hint(f"line {line}: {message}")
    if done.refused:
        complain(f"{file}: {done.refused} lines were refused; the others are in force")
        raise SystemExit(1)


def _import(file: Path, done: Import) -> None:
    # what is no UTF-8 is found and told with its line, where the text is looked at
    with (
        file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines,
        database() as engine,
    ):

        def transact(work: Any) -> None:
            with engine.begin() as connection:
                work(connection)

        import_csv(lines, file.name, author(), transact, done)


def _key(number: str, prefix: bool, app: str | None, direction: Direction) -> dict[str, Any]:
    kind = Kind.PREFIX if prefix else Kind.EXACT
    return {"number": number, "kind": kind, "app": app, "direction": direction}
