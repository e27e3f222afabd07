"""PostgreSQL's own tools make and read its backups; here is how they are called.

The password goes to them by their environment, where other users of the machine do not see it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, func, make_url, select, text

from huibo.storage.migrate import MIGRATION_LOCK


class BackupFailed(Exception):
    """No backup was made, or nothing restored. The message says why and what to do."""


def dump(url: str, file: Path) -> None:
    _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={file}")


def load(url: str, file: Path) -> None:
    """All of it or nothing."""
    options = ("--clean", "--if-exists", "--single-transaction", "--exit-on-error", "--no-owner")
    _run("pg_restore", url, *options, "--no-privileges", str(file))


def revision(file: Path) -> str:
    """The schema of a backup."""
    said = _run("pg_restore", None, "--data-only", "--table=alembic_version", "--file=-", str(file))
    lines = iter(said.splitlines())
    for line in lines:
        if line.startswith("COPY ") and "alembic_version" in line:
            return next(lines, "").strip()
    raise BackupFailed(f"{file} is no backup of huibo")


@contextmanager
def nobody_starts(engine: Engine) -> Iterator[Connection]:
    """A huibo that starts waits with its first look at the schema until this is over."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(select(func.pg_try_advisory_lock(MIGRATION_LOCK))):
            raise BackupFailed(f"{engine.url!r} is in use: a huibo starts, or another restore runs")
        yield connection
        connection.scalar(select(func.pg_advisory_unlock(MIGRATION_LOCK)))


def others(connection: Connection) -> int:
    """How many connections there are to the database beside the one that asks."""
    query = """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
    return int(connection.scalar(text(query)) or 0)


def _run(tool: str, url: str | None, *options: str) -> str:
    program = shutil.which(tool)
    if program is None:
        raise BackupFailed(
            f"{tool} is not installed: it comes with PostgreSQL (apt install postgresql-client)"
        )
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    if url is not None:
        parsed = make_url(url)
        if parsed.password is not None:
            environment["PGPASSWORD"] = str(parsed.password)
        plain = parsed.set(drivername="postgresql", password=None)
        options = (f"--dbname={plain.render_as_string(hide_password=False)}", "--no-password", *options)
    done = subprocess.run(
        [program, *options], env=environment, capture_output=True, text=True, errors="replace"
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise BackupFailed(f"{tool}: {'; '.join(said[:3]) or f'exit code {done.returncode}'}")
    return done.stdout
