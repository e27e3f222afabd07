"""`huibo lock`: what may not call, or carries no calls, for a time."""

from __future__ import annotations

from typing import Annotated

import typer

from huibo.cli import changes
from huibo.cli.output import AsJson, clock_time, print_json, say, table
from huibo.cli.store import author, change, every
from huibo.office import locks
from huibo.office.locks import NewLock
from huibo.storage.locks import LockKind

commands = typer.Typer(no_args_is_help=True)

Subject = Annotated[str, typer.Argument(help="The address, the app or the trunk.")]


@commands.command("list")
def list_(
    kind: Annotated[LockKind | None, typer.Option(help="Only those of this kind.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the locks in force."""
    now = author().at
    found = every(lambda connection, after, limit: locks.page(connection, now, kind, after, limit))
    if as_json:
        print_json([lock.model_dump(mode="json") for lock in found])
        return
    table(
        ("kind", "what", "since", "until", "reason"),
        [(o.kind.value, o.subject, clock_time(o.since), clock_time(o.until), o.reason) for o in found],
    )


@commands.command("add")
def add(
    kind: LockKind,
    subject: Subject,
    minutes: Annotated[int, typer.Argument(help="For how long from now.")],
    reason: Annotated[str | None, typer.Option(help="For people.")] = None,
) -> None:
    """Lock something for some minutes, in place of the lock that there was."""
    given = {"kind": kind, "subject": subject, "minutes": minutes, "reason": reason}
    lock = change(locks.put, changes.read(NewLock, [], given))
    say(f"{lock.kind} {lock.subject} locked until {clock_time(lock.until)}")


@commands.command("lift")
def lift(kind: LockKind, subject: Subject) -> None:
    """End a lock before its time."""
    change(locks.lift, kind, subject)
    say(f"{kind} {subject} is locked no longer")
