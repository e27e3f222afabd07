"""`huibo drain`: a cell takes no more calls and finishes those it has."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from huibo.cli.output import Failed, say
from huibo.cli.store import change, read, settings
from huibo.office import cells
from huibo.office.cells import Draining

commands = typer.Typer()

_LOOK_S = 0.5
_HEED_S = 2.0  # the process has seen by then that it is to take no more, and stored what it was taking
_SILENT_S = 10.0


@commands.command()
def drain(
    cell: Annotated[str | None, typer.Option(help="Which cell; default: the one of these settings.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until its last call is over.")] = True,
    timeout: Annotated[float | None, typer.Option(min=0, help="Wait no longer than so many seconds.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Have it take calls again.")] = False,
) -> None:
    """Have a cell take no more calls (-501, /readyz 503); those it has go on.

    Exit code 0: no call is left, or with --no-wait or --undo: it has been told. 1: calls are left. It stays
    so until it is started anew, whatever becomes of this command.
    """
    name = cell or settings().cell.name
    told = change(cells.drain, name, not undo)
    if undo:
        say(f"cell {name} takes calls again")
    elif wait:
        _wait(told, timeout)
    else:
        say(f"cell {name} takes no more calls; {_calls(told)}")


def _wait(seen: Draining, timeout_s: float | None) -> None:
    """Until the last call is over. Raises `Failed`."""
    name, began, said = seen.name, time.monotonic(), -1
    while True:
        waited_s = time.monotonic() - began
        if not seen.draining:
            raise Failed(f"cell {name} takes calls again: it was started anew, or somebody undid it")
        if not seen.live_calls and waited_s >= _HEED_S:
            say(f"cell {name} takes no more calls and has none")
            return
        if seen.live_calls and seen.silent_ms > _SILENT_S * 1000:
            silent_s = seen.silent_ms // 1000
            raise Failed(f"nothing has been heard of cell {name} for {silent_s} s; {_calls(seen)}")
        if timeout_s is not None and waited_s >= timeout_s:
            raise Failed(f"{_calls(seen)} after {timeout_s:g} s; cell {name} stays as it is, taking none")
        if seen.live_calls != said:
            said = seen.live_calls
            say(f"cell {name} takes no more calls; {_calls(seen)}")
        time.sleep(_LOOK_S)
        seen = read(cells.find, name)


def _calls(seen: Draining) -> str:
    match seen.live_calls:
        case 0:
            return "no call goes on"
        case 1:
            return "1 call goes on"
        case many:
            return f"{many} calls go on"
