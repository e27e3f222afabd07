"""`huibo call`: places a call through the running server and says line by line what becomes of it."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from huibo import yuan
from huibo.cli.output import AsJson, Failed, hint, print_json, say
from huibo.cli.server import NoServer, Server, told
from huibo.cli.store import settings
from huibo.storage.tokens import Role

commands = typer.Typer()

Caller = Annotated[str, typer.Argument(metavar="SRC", help="Who is called first: a mobile number.")]
Callee = Annotated[str, typer.Argument(metavar="DST", help="Who is called then.")]
OfApp = Annotated[str, typer.Option(help="The app whose call it is.")]
CallerSees = Annotated[str | None, typer.Option(help="The number that the first phone shows.")]
CalleeSees = Annotated[str | None, typer.Option(help="The number that the second phone shows.")]
MaxTalk = Annotated[int | None, typer.Option(min=1, help="The call is cut after so long.")]
Record = Annotated[bool, typer.Option(help="Record what they say.")]

_POLL_S = 0.25
_PATIENCE_S = 60  # a server that is being restarted comes back


@commands.command()
def call(
    caller: Caller,
    callee: Callee,
    app: OfApp,
    caller_display: CallerSees = None,
    callee_display: CalleeSees = None,
    max_talk_s: MaxTalk = None,
    record: Record = False,
    as_json: AsJson = False,
) -> None:
    """Place a call through the running server and follow it. Exit code 0: the parties talked, 1: not.

    Ctrl-C ends the following, not the call. With --json the whole call is printed when it is over.
    """
    server = Server(settings().http, Role.OPERATOR, "huibo call")
    new = body_of(app, caller, callee, caller_display, callee_display, max_talk_s, record)
    answer = server.ask("POST", "/v1/calls", new)
    if answer.status != 201:
        raise told(answer)
    placed = answer.body
    call_id = placed["call_id"]
    if not as_json:
        say(f"call {call_id}")
        say(f"the caller's phone shows {placed['caller_display']}, the callee's {placed['callee_display']}")
    try:
        ended = _follow(server, call_id, quiet=as_json)
    except KeyboardInterrupt:
        hint(f"not followed any longer; the call goes on: `huibo calls {call_id}` shows it")
        raise SystemExit(1) from None
    if as_json:
        print_json(ended)
    else:
        say(_summary(ended))
    raise SystemExit(0 if ended["result"] == "talked" else 1)


def body_of(
    app: str,
    caller: str,
    callee: str,
    caller_display: str | None,
    callee_display: str | None,
    max_talk_s: int | None,
    record: bool = False,
) -> dict[str, Any]:
    """The call as the API takes it."""
    return {
        "app_id": app,
        "caller": caller,
        "callee": callee,
        "caller_display": caller_display,
        "callee_display": callee_display,
        "max_talk_s": max_talk_s,
        "record": record,
    }


def moment_line(moment: dict[str, Any], began: int) -> str:
    """A line of a call's timeline: seconds since it was accepted, which leg, what."""
    what = moment["event"]
    if moment["trunk"]:
        what += f" over {moment['trunk']}"
    if moment["reason"]:
        what += f": {moment['reason'].replace('_', ' ')}"
    if moment["sip_code"]:
        what += f" ({moment['sip_code']})"
    return f"{(moment['at'] - began) / 1000:8.3f}  {moment['leg'] or 'call':6}  {what}"


def _follow(server: Server, call_id: str, quiet: bool) -> Any:
    """The call when it is over; its moments are said as they come."""
    told_of: list[dict[str, Any]] = []
    heard_at = time.monotonic()
    while True:
        try:
            answer = server.get(f"/v1/calls/{call_id}")
        except NoServer as error:
            if time.monotonic() > heard_at + _PATIENCE_S:
                raise Failed(f"{error}; call {call_id} may go on") from None
            time.sleep(_POLL_S)
            continue
        if answer.status != 200:
            raise told(answer)
        heard_at = time.monotonic()
        for moment in answer.body["timeline"]:
            if moment not in told_of:
                told_of.append(moment)
                if not quiet:
                    say(moment_line(moment, answer.body["accepted_at"]))
        if answer.body["ended_at"] is not None and answer.body["result"] is not None:
            return answer.body
        time.sleep(_POLL_S)


def _summary(ended: dict[str, Any]) -> str:
    if ended["result"] != "talked":
        return f"they did not talk: {ended['result'].replace('_', ' ')}"
    cost = f", {yuan.shown(ended['charge'])} yuan" if ended["charge"] else ""
    return f"they talked for {ended['talk_s']} s{cost}"
