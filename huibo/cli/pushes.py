"""`huibo push`: what customers were told, what they were not, and telling it once more."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from huibo.cli import changes
from huibo.cli.output import AsJson, Failed, clock_time, one, print_json, say, table
from huibo.cli.store import After, Limit, change, every, listed, read
from huibo.office import push_targets, pushes
from huibo.office.push_targets import Named
from huibo.office.pushes import PushKind, PushState, Range, ReplayRange

commands = typer.Typer(no_args_is_help=True)

OfApp = Annotated[str | None, typer.Option(help="Only those of this app.")]
OfCall = Annotated[str | None, typer.Option(help="Only those of this call.")]
OfKind = Annotated[PushKind | None, typer.Option(help="Only those of this kind.")]
Since = Annotated[datetime | None, typer.Option(help="Owed at this time or later.")]
Until = Annotated[datetime | None, typer.Option(help="Owed before this time.")]


@commands.command("list")
def list_(
    app: OfApp = None,
    call: OfCall = None,
    kind: OfKind = None,
    state: Annotated[PushState | None, typer.Option(help="dead: given up.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """List pushes, the newest first."""
    wanted = changes.read(Range, [], _given(app, call, kind, state, since, until))
    found = listed(
        lambda connection, behind, most: pushes.page(connection, wanted, behind, most), limit, after
    )
    if as_json:
        print_json([push.model_dump(mode="json") for push in found])
        return
    table(
        ("id", "owed", "app", "call", "what", "state", "tries", "last error", "URL"),
        [
            (
                *(p.id, clock_time(p.created_at), p.app_id, p.call_id, p.kind.value, p.state.value),
                *(p.attempts, p.last_error, p.url),
            )
            for p in found
        ],
    )


@commands.command("show")
def show(push_id: int, as_json: AsJson = False) -> None:
    """Show one push with what it says."""
    found = read(pushes.show, push_id)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    times = {name: clock_time(getattr(found, name)) for name in _TIMES}
    one(found.model_dump(mode="json") | times)


@commands.command("replay")
def replay(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Which pushes.")] = None,
    app: OfApp = None,
    call: OfCall = None,
    kind: OfKind = None,
    state: Annotated[
        PushState, typer.Option(help="Of those that are not named by their id.")
    ] = PushState.DEAD,
    since: Since = None,
    until: Until = None,
    dead: Annotated[bool, typer.Option("--all", help="All that were given up, of whatever app.")] = False,
) -> None:
    """Send pushes once more: some by their ids, or all that were given up and that the options tell."""
    for push_id in ids or ():
        change(pushes.replay, push_id)
    count, chosen = len(ids or ()), (app, call, kind, since, until)
    if not ids:
        if not dead and not any(chosen):
            raise Failed("say which: ids, --app, --call, --kind, --since, --until, or --all")
        wanted = changes.read(ReplayRange, [], _given(app, call, kind, state, since, until))
        count = _replay_all(wanted)
    say(f"{count} pushes are sent once more")


@commands.command("targets")
def targets(
    app: OfApp = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Only those that get none any more.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the URLs whose pushes fail, and those that get no pushes any more."""
    only = True if disabled else None
    found = every(lambda connection, after, limit: push_targets.page(connection, app, only, after, limit))
    if as_json:
        print_json([target.model_dump(mode="json") for target in found])
        return
    table(
        ("app", "URL", "failing since", "last error", "disabled", "reason"),
        [
            (
                *(t.app_id, t.url, clock_time(t.failing_since), t.last_error),
                *(clock_time(t.disabled_at), t.reason),
            )
            for t in found
        ],
    )


@commands.command("enable")
def enable(
    app: Annotated[str, typer.Argument(help="Whose URL it is.")],
    url: Annotated[str, typer.Argument(help="What stands before its query counts.")],
) -> None:
    """Have a URL that was disabled get pushes again."""
    target = change(push_targets.enable, changes.read(Named, [], {"app_id": app, "url": url}))
    say(f"{target.app_id} {target.url} gets pushes again; what it missed: huibo push replay --app {app}")


def _replay_all(wanted: ReplayRange) -> int:
    done = change(pushes.replay_range, wanted)
    count = done.count
    while done.next is not None:
        done = change(pushes.replay_range, wanted, done.next)
        count += done.count
    return count


_TIMES = ("created_at", "next_at", "finished_at", "replayed_at")


def _given(
    app: str | None,
    call: str | None,
    kind: PushKind | None,
    state: PushState | None,
    since: datetime | None,
    until: datetime | None,
) -> dict[str, Any]:
    times = {name: at and int(at.timestamp() * 1000) for name, at in (("since", since), ("until", until))}
    return {"app_id": app, "call_id": call, "kind": kind, "state": state} | times
