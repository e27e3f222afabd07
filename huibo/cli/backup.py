"""`huibo backup`: the database in one file, while calls go on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huibo.cli.output import Failed, hint, say
from huibo.cli.store import settings
from huibo.storage.backup import backup
from huibo.storage.backup_postgres import BackupFailed

commands = typer.Typer()


@commands.command()
def write(file: Annotated[Path, typer.Argument(help="A new file; everything secret is in it.")]) -> None:
    """Write the database to FILE, as it is at one moment. The server may run meanwhile."""
    chosen = settings()
    try:
        backup(chosen.database_url, file)
    except BackupFailed as error:
        raise Failed(str(error)) from error
    say(f"{file}: {file.stat().st_size / 1_000_000:.1f} MB")
    hint(f"not in it: recordings ({chosen.recording.folder}) and the settings file")
