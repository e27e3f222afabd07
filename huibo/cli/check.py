"""`huibo check`: what would become of a call. Nobody is rung and nothing is written."""

from __future__ import annotations

from typing import Any

import typer

from huibo import yuan
from huibo.cli.call import Callee, CalleeSees, Caller, CallerSees, MaxTalk, OfApp, body_of
from huibo.cli.output import AsJson, one, print_json, say
from huibo.cli.server import Server, told
from huibo.cli.store import settings
from huibo.storage.tokens import Role

commands = typer.Typer()


@commands.command()
def check(
    caller: Caller,
    callee: Callee,
    app: OfApp,
    caller_display: CallerSees = None,
    callee_display: CalleeSees = None,
    max_talk_s: MaxTalk = None,
    as_json: AsJson = False,
) -> None:
    """Say what the running server would do with a call. Exit code 0: it would go, 1: it would not."""
    server = Server(settings().http, Role.VIEWER, "huibo check")
    new = body_of(app, caller, callee, caller_display, callee_display, max_talk_s)
    answer = server.ask("POST", "/v1/calls:check", new)
    if answer.status != 200:
        raise told(answer)
    found = answer.body
    if as_json:
        print_json(found)
    else:
        refused = found["refused"]
        if refused:
            say(f"would not go: {refused['rule']} says {refused['code']}, {refused['message']}")
        else:
            say("would go")
        one({key: value for key, value in _lines(found).items() if value})
    raise SystemExit(0 if found["would_go"] else 1)


def _lines(found: dict[str, Any]) -> dict[str, object]:
    held = found["hold"]
    return {
        "caller's phone shows": found["caller_display"],
        "callee's phone shows": found["callee_display"],
        "trunks to the caller": found["caller_route"],
        "trunks to the callee": found["callee_route"],
        "trunks that take none": [f"{name} ({why})" for name, why in found["closed"].items()],
        "price of the caller's leg": _price(found["caller_price"]),
        "price of the callee's leg": _price(found["callee_price"]),
        "to be spent": None if found["available"] is None else f"{yuan.shown(found['available'])} yuan",
        "set aside": None if held is None else f"{yuan.shown(held)} yuan",
        "longest talk": f"{found['affordable_s']} s" if found["would_go"] or held is not None else None,
    }


def _price(price: dict[str, Any] | None) -> str | None:
    if price is None:
        return None
    setup = f", {yuan.shown(price['setup'])} for the answer" if price["setup"] else ""
    steps = f"first {price['first_s']} s, then every {price['next_s']} s"
    return (
        f"{yuan.shown(price['per_minute'])} yuan a minute, {steps}{setup} (prefix {price['prefix'] or 'all'})"
    )
