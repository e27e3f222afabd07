"""A copy of the database in one file, made while calls go on, and a database made of such a copy.

Loses nothing: what a restored copy replaces is kept beside it. Nothing here migrates; the next start does.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, func, inspect, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError

from huibo.storage import backup_postgres as postgres
from huibo.storage.backup_postgres import BackupFailed
from huibo.storage.database import open_engine, sqlite_file
from huibo.storage.migrate import config_for
from huibo.storage.tables import metadata
from huibo.storage.tenure import lock_file

_SQLITE, _POSTGRES = b"SQLite format 3\0", b"PGDMP"
_OWN_BUSINESS = {"secrets", "catalog_marks"}  # made by every start; no reason to call a database used


def backup(url: str, file: Path) -> None:
    """Write the database to a new file, as it is at one moment. Whoever uses it goes on undisturbed."""
    file = file.absolute()
    if file.exists():
        raise BackupFailed(f"{file} exists: name a new file")
    if not file.parent.is_dir():
        raise BackupFailed(f"{file.parent} is no folder: make it first")
    with _database(url) as engine:
        revision = _revision(engine)
        with _new_file(file) as partial:
            source = sqlite_file(url)
            if source is None:
                postgres.dump(url, partial)
            else:
                _copy_sqlite(source, partial)
            if _revision_in(partial) != revision:
                raise BackupFailed(
                    "the copy is not whole; the database was brought to another schema meanwhile?"
                )


def restore(url: str, file: Path, *, force: bool) -> Path | None:
    """Make the database what it was when `file` was written. Returns where what was there before is kept.

    Refused while anybody uses the database, and unless forced when there is anything in it.
    """
    target = _target(url)
    _must_suit(url, file)
    revision = _revision_in(file)
    known = {one.revision for one in ScriptDirectory.from_config(config_for(None)).walk_revisions()}
    if revision not in known:
        raise BackupFailed(f"{file} belongs to a newer huibo (schema {revision}): upgrade this one")
    if target is not None:
        with _nobody_else(target):
            return _restore_sqlite(target, file, force)
    with _database(url) as engine, postgres.nobody_starts(engine) as connection:
        if postgres.others(connection):
            raise BackupFailed(f"{engine.url!r} is in use: stop huibo first")
        if not _holds_anything(engine):
            postgres.load(url, file)
            return None
        kept = file.absolute().with_name(f"{file.name}{_replaced()}")
        if not force:
            raise _not_empty(repr(engine.url), kept)
        backup(url, kept)
        postgres.load(url, file)
        return kept


@contextmanager
def _nobody_else(target: Path) -> Iterator[None]:
    """No huibo runs on an SQLite database, and none starts within."""
    if not target.parent.is_dir():
        raise BackupFailed(f"{target.parent} is no folder: make it first")
    held = lock_file(target)
    if held is None:
        raise BackupFailed(f"{target} is in use: stop huibo first")
    try:
        yield
    finally:
        os.close(held)


def _restore_sqlite(target: Path, file: Path, force: bool) -> Path | None:
    kept = target.with_name(target.name + _replaced())
    used = target.exists() and _examine_sqlite(target)
    if used and not force:
        raise _not_empty(str(target), kept)
    with _new_file(target, replacing=True) as partial:
        _copy_sqlite(file, partial)
        _on_disk(partial)
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{target}{ending}").rename(f"{kept}{ending}")
    return kept if kept.exists() else None


def _examine_sqlite(target: Path) -> bool:
    """Whether there is anything in a database, which nobody may be using."""
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as connection:
            # whoever has opened a database in WAL mode holds a lock on it until it is closed
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        raise BackupFailed(f"{target} is in use, or cannot be written ({error}): stop huibo first") from error
    except sqlite3.DatabaseError:
        return True  # broken, as it may be when a backup is needed
    try:
        with _database(f"sqlite:///{target}") as engine:
            return _holds_anything(engine)
    except BackupFailed:
        return True


def _not_empty(what: str, kept: Path) -> BackupFailed:
    return BackupFailed(f"{what} is not empty: with --force it is replaced, and kept as {kept}")


def _replaced() -> str:
    return f".replaced-{time.strftime('%Y%m%d-%H%M%S')}"


def _target(url: str) -> Path | None:
    try:
        file = sqlite_file(url)
    except ArgumentError as error:
        raise BackupFailed(f"database_url: {error}") from error
    return file.absolute() if file is not None else None


@contextmanager
def _database(url: str) -> Iterator[Engine]:
    """A database that must exist, for looking into it."""
    target = _target(url)
    if target is not None and not target.exists():
        raise BackupFailed(f"{target} does not exist: is database_url right?")
    try:
        engine = open_engine(url)
    except ImportError as error:
        raise BackupFailed(f"database_url: {error}") from error
    try:
        yield engine
    except DBAPIError as error:
        raise BackupFailed(f"database {make_url(url)!r}: {error.orig}") from error
    finally:
        engine.dispose()


def _revision(engine: Engine) -> str:
    with engine.execution_options(reading=True).connect() as connection:
        found = _schema(connection)
    if found is None:
        raise BackupFailed(f"{engine.url!r} holds no huibo: is database_url right?")
    return found


def _schema(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found


def _holds_anything(engine: Engine) -> bool:
    with engine.execution_options(reading=True).connect() as connection:
        there = set(inspect(connection).get_table_names())
        ours = [table for table in metadata.sorted_tables if table.name in there - _OWN_BUSINESS]
        return any(connection.scalar(select(func.count()).select_from(table)) for table in ours)


def _must_suit(url: str, file: Path) -> None:
    try:
        with file.open("rb") as opened:
            begins = opened.read(16)
    except OSError as error:
        raise BackupFailed(f"{file}: {error.strerror}") from error
    wanted = _POSTGRES if _target(url) is None else _SQLITE
    if begins.startswith(wanted):
        return
    if begins.startswith((_SQLITE, _POSTGRES)):
        raise BackupFailed(f"{file} is a backup of the other kind of database than database_url names")
    raise BackupFailed(f"{file} is no backup of huibo")


def _revision_in(file: Path) -> str:
    """The schema of a backup, which must be whole."""
    with file.open("rb") as opened:
        if opened.read(len(_POSTGRES)) == _POSTGRES:
            return postgres.revision(file)
    try:
        with closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as connection:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise BackupFailed(f"{file} is damaged: {found}")
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.DatabaseError as error:
        raise BackupFailed(f"{file} is damaged, or no backup of huibo: {error}") from error
    if not rows:
        raise BackupFailed(f"{file} is no backup of huibo")
    return str(rows[0][0])


def _copy_sqlite(source: Path, copy: Path) -> None:
    """By SQLite's own online backup: one moment of the database, its writers are not kept waiting."""
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as there,
            closing(sqlite3.connect(copy)) as here,
        ):
            there.backup(here)
            here.execute("PRAGMA journal_mode = DELETE")  # nothing of it is in a file beside it
    except sqlite3.Error as error:
        raise BackupFailed(f"{source} cannot be copied: {error}") from error


@contextmanager
def _new_file(file: Path, replacing: bool = False) -> Iterator[Path]:
    """A file for its owner's eyes that is there whole, and on disk, or not at all."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield partial
        _on_disk(partial)
        if replacing:
            partial.rename(file)
        else:
            os.link(partial, file)  # never over a file that has come meanwhile
        _on_disk(file.parent)
    except OSError as error:
        raise BackupFailed(f"{file}: {error.strerror}") from error
    finally:
        for ending in ("", "-journal", "-wal", "-shm"):
            Path(f"{partial}{ending}").unlink(missing_ok=True)


def _on_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
