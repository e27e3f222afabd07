"""`huibo health`: how the running server and its trunks are at this moment."""

from __future__ import annotations

from typing import Any

import typer

from huibo.cli.output import AsJson, clock_time, print_json, table
from huibo.cli.server import Server, told
from huibo.cli.store import settings
from huibo.storage.tokens import Role

commands = typer.Typer()


@commands.command()
def health(as_json: AsJson = False) -> None:
    """Say how the running server and its trunks are. Exit code 0: calls can be placed, 1: they cannot."""
    answer = Server(settings().http, Role.VIEWER, "huibo health").get("/v1/health")
    if answer.status != 200:
        raise told(answer)
    found = answer.body
    if as_json:
        print_json(found)
    else:
        table(
            ("cell", "server", "version", "engine", "live calls", "heard of"),
            map(_cell, found["cells"]),
        )
        table(
            ("trunk", "state", "takes calls", "reachable", "registered", "round trip", "channels", "locked"),
            map(_trunk, found["trunks"]),
        )
    raise SystemExit(0 if found["ok"] else 1)


def _cell(cell: dict[str, Any]) -> tuple[object, ...]:
    engine = "ready" if cell["engine_ready"] else "not ready"
    engine += ", draining" if cell["draining"] else ""
    heard = f"{cell['silent_ms'] // 1000} s ago"
    return cell["name"], cell["base_url"], cell["version"], engine, cell["live_calls"], heard


def _trunk(trunk: dict[str, Any]) -> tuple[object, ...]:
    lock, took = trunk["lock"], trunk["roundtrip_ms"]
    return (
        *(trunk["name"], trunk["state"], trunk["usable"], trunk["reachable"], trunk["registered"]),
        None if took is None else f"{took:.0f} ms",
        f"{trunk['channels_in_use']} of {trunk['channels'] or 'any'}",
        f"until {clock_time(lock['until'])}: {lock['reason']}" if lock else None,
    )
