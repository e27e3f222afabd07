"""Doctor: the database. Looks without changing anything, not even the schema."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Generator
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from huibo.config import Settings
from huibo.findings import Finding, fail, ok, warn
from huibo.storage.database import open_engine, sqlite_file
from huibo.storage.migrate import config_for

_TOPIC = "database"


def examine(settings: Settings) -> Generator[Finding, None, bool]:
    """Returns whether it can be used."""
    url = settings.database_url
    try:
        shown = repr(make_url(url))  # without the password
        file = sqlite_file(url)
        if file is not None and not file.exists():
            yield fail(_TOPIC, f"{shown} does not exist", f"{_made(file)}; `huibo serve` makes the file")
            return False
        engine = open_engine(url)
    except (ArgumentError, ImportError) as error:
        yield fail(_TOPIC, f"database_url: {error}", "set HUIBO_DATABASE_URL or database_url")
        return False
    try:
        schema = _schema(engine)
        yield schema
        if schema.level == "ok":
            yield _writable(engine)
    except DBAPIError as error:
        yield fail(_TOPIC, f"{shown}: {error.orig}", "set HUIBO_DATABASE_URL or database_url, or repair it")
        return False
    finally:
        engine.dispose()
    if file is not None:
        yield from _private(file)
    return schema.level == "ok"


def _made(file: Path) -> str:
    folder = file.absolute().parent
    return f"its folder {folder} is there" if folder.is_dir() else f"make its folder {folder}"


def _schema(engine: Engine) -> Finding:
    with engine.execution_options(reading=True).connect() as connection:
        own = MigrationContext.configure(connection).get_current_revision()
        known = ScriptDirectory.from_config(config_for(connection))
        newest, every = known.get_current_head(), {one.revision for one in known.walk_revisions()}
    if own == newest:
        return ok(_TOPIC, f"{engine.url!r}, schema {own}")
    if own is None or own in every:
        was = "is empty" if own is None else f"has the schema {own}, not {newest}"
        return fail(_TOPIC, f"{engine.url!r} {was}", "start `huibo serve`, which brings it up to date")
    return fail(_TOPIC, f"{engine.url!r} belongs to a newer huibo (schema {own})", "upgrade this one")


def _writable(engine: Engine) -> Finding:
    try:
        with engine.connect() as connection:
            row = {"name": "doctor", "value": b""}
            connection.execute(text("INSERT INTO secrets (name, value) VALUES (:name, :value)"), row)
            connection.rollback()
    except DBAPIError as error:
        hint = "is another process writing for seconds on end? else its file, folder and disk"
        return fail(_TOPIC, f"cannot be written to: {error.orig}", hint)
    return ok(_TOPIC, "can be written to")


def _private(file: Path) -> Generator[Finding, None, None]:
    found = file.stat()
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        hint = f"chmod 600 {file}*, and start huibo with umask 077"
        yield warn(_TOPIC, f"others may read {file}: numbers and passwords are in it", hint)
    if os.getuid() == 0 != found.st_uid:
        hint = "run doctor as that user: what is writable here may not be for it"
        yield warn(_TOPIC, f"{file} belongs to user {found.st_uid}, and this is root", hint)
    free = shutil.disk_usage(file.absolute().parent).free
    if free < 100_000_000:
        yield fail(_TOPIC, f"its disk has {free // 1_000_000} MB left", "make room: no call is taken without")
