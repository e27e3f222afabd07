"""`huibo calls`: looks for calls, and shows one with all that happened in it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from huibo import yuan
from huibo.cli import changes
from huibo.cli.call import moment_line
from huibo.cli.output import AsJson, clock_time, one, print_json, say, table
from huibo.cli.store import After, Limit, listed, read, settings
from huibo.model import CallResult
from huibo.office import calls
from huibo.office.calls import Search, WholeCall

commands = typer.Typer()


@commands.command()
def show(
    call_id: Annotated[str | None, typer.Argument(help="One call, with all that happened in it.")] = None,
    app: Annotated[str | None, typer.Option(help="Only those of this app.")] = None,
    caller: Annotated[str | None, typer.Option(help="Only those from this number.")] = None,
    callee: Annotated[str | None, typer.Option(help="Only those to this number.")] = None,
    biz_id: Annotated[str | None, typer.Option(help="Only those with this id of the customer's.")] = None,
    order_id: Annotated[str | None, typer.Option(help="Only those with this order.")] = None,
    result: Annotated[CallResult | None, typer.Option(help="Only those that ended so.")] = None,
    live: Annotated[bool | None, typer.Option("--live/--over", help="Only those under way, or over.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Accepted at this time or later.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Accepted before this time.")] = None,
    limit: Limit = 50,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """Look for calls, the newest first, or at one."""
    if call_id is not None:
        _show(read(calls.find, call_id, settings().http.base_url), as_json)
        return
    given: dict[str, Any] = {"app_id": app, "caller": caller, "callee": callee, "result": result}
    given |= {"biz_id": biz_id, "order_id": order_id, "live": live, "since": _ms(since), "until": _ms(until)}
    sought = changes.read(Search, [], given)
    found = listed(
        lambda connection, behind, most: calls.page(connection, sought, behind, most), limit, after
    )
    if as_json:
        print_json([call.model_dump(mode="json") for call in found])
        return
    table(
        ("accepted", "call", "app", "caller", "callee", "state", "talk", "yuan"),
        [
            (
                *(clock_time(c.accepted_at), c.call_id, c.app_id, c.caller, c.callee),
                *(_words(c.result or c.progress), None if c.talk_s is None else f"{c.talk_s} s"),
                None if c.charge is None else yuan.shown(c.charge),
            )
            for c in found
        ],
    )


def _show(call: WholeCall, as_json: bool) -> None:
    if as_json:
        print_json(call.model_dump(mode="json"))
        return
    fields = call.model_dump(mode="json", exclude={"timeline", "pushes", "recording"})
    fields |= {name: clock_time(getattr(call, name)) for name in ("accepted_at", "ended_at")}
    fields |= {name: _yuan(getattr(call, name)) for name in ("charge", "hold")}
    if call.recording is not None:
        fields["recording"] = call.recording.url or _words(call.recording.reason or call.recording.state)
    one({key: value for key, value in fields.items() if value not in (None, "", [])})
    say("")
    for moment in call.timeline:
        say(moment_line(moment.model_dump(mode="json"), call.accepted_at))
    if call.pushes:
        say("")
        table(
            ("push", "what", "state", "tries", "last error", "URL"),
            [(p.id, p.kind.value, p.state.value, p.attempts, p.last_error, p.url) for p in call.pushes],
        )


def _yuan(amount: int | None) -> str | None:
    return None if amount is None else yuan.shown(amount)


def _words(value: str) -> str:
    return value.replace("_", " ")


def _ms(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1000)
