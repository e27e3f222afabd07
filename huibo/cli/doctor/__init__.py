"""`huibo doctor`: examines the installation from end to end and says what to repair, a line each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import typer

from huibo.cli.doctor import book, database, folders, server, voice
from huibo.cli.doctor import settings as files
from huibo.cli.output import AsJson, print_json, say
from huibo.engine.ari import examine as engine
from huibo.findings import Finding, Level

commands = typer.Typer()

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@commands.command()
def doctor(as_json: AsJson = False) -> None:
    """Examine the installation from end to end and say what to repair. Exit code 1: something fails.

    Run it as the user that huibo runs as, with the same settings. It rings nobody.
    """
    found = []
    for finding in examine():
        found.append(finding)
        if not as_json:
            _say(finding)
    counts = {level: sum(one.level is level for one in found) for level in Level}
    if as_json:
        print_json({"ok": not counts[Level.FAIL], "findings": [asdict(one) for one in found]})
    else:
        say(f"{counts[Level.OK]} ok, {counts[Level.WARN]} to look at, {counts[Level.FAIL]} to repair")
    raise SystemExit(1 if counts[Level.FAIL] else 0)


def examine() -> Iterator[Finding]:
    """All findings in the order in which things need each other."""
    chosen = yield from files.examine()
    if chosen is None:
        return
    usable = yield from database.examine(chosen)
    yield from engine.examine(chosen.engine)
    yield from server.examine(chosen, usable)
    if usable:
        yield from book.examine(chosen)
    yield from folders.examine(chosen)
    yield from voice.examine(chosen.prompts)


def _say(finding: Finding) -> None:
    level = typer.style(f"{finding.level:4}", fg=_COLOURS[finding.level])
    hint = f": {finding.hint}" if finding.hint else ""
    typer.echo(f"{level}  {finding.topic:10}  {finding.text}{hint}")  # which leaves out colours for a file
