"""`huibo recording`: what became of the recordings, and why one failed."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from huibo.cli.output import AsJson, print_json, table
from huibo.cli.store import read
from huibo.storage.recordings import FAILED, PENDING, PURGED, READY, list_recordings

commands = typer.Typer(no_args_is_help=True)


class State(StrEnum):
    """The states of a recording, as the command line names them."""

    PENDING = PENDING
    READY = READY
    FAILED = FAILED
    PURGED = PURGED


@commands.command("list")
def list_(
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    as_json: AsJson = False,
) -> None:
    """List recordings, the newest first; failed ones with their reason."""
    found = read(list_recordings, state.value if state else None, limit)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    table(
        ("call", "app", "state", "attempts", "reason", "bytes"),
        [(r.call_id, r.app_id, r.state, r.attempts, r.reason, r.bytes) for r in found],
    )
