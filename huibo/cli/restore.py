"""`huibo restore`: the database as it was when a backup was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huibo.cli.output import Failed, say
from huibo.cli.store import settings
from huibo.storage.backup import restore
from huibo.storage.backup_postgres import BackupFailed

commands = typer.Typer()


@commands.command()
def read(
    file: Annotated[Path, typer.Argument(help="What `huibo backup` wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Also when the database is not empty.")] = False,
) -> None:
    """Make the database what it was when FILE was written. Stop the server first."""
    try:
        kept = restore(settings().database_url, file, force=force)
    except BackupFailed as error:
        raise Failed(str(error)) from error
    say(f"restored from {file}" + (f"; what was there before is {kept}" if kept else ""))
