"""`huibo audit`: who changed what."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from huibo.cli.output import AsJson, clock_time, print_json, table
from huibo.cli.store import After, Limit, listed
from huibo.office import audit

commands = typer.Typer()


@commands.command()
def show(
    kind: Annotated[str | None, typer.Option(help="app, number, trunk, rate, account, token …")] = None,
    subject: Annotated[str | None, typer.Option(help="What was changed, e.g. an app.")] = None,
    author: Annotated[str | None, typer.Option(help="Who did it, e.g. cli:root.")] = None,
    limit: Limit = 50,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """List who changed what, the newest first."""
    found = listed(
        lambda connection, behind, most: audit.page(connection, kind, subject, author, behind, most),
        limit,
        after,
    )
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    table(
        ("time", "who", "from", "did", "what", "how"),
        [
            (clock_time(c.at), c.author, c.origin, c.action, f"{c.kind} {c.subject}", _how(c.before, c.after))
            for c in found
        ],
    )


def _how(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """What differs, as KEY=VALUE."""
    before, after = before or {}, after or {}
    if not after:
        return ""
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    return " ".join(
        f"{key}={_text(value)}" for key, value in changed.items() if before or value not in (None, "", [])
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
