"""One database, from asyncio: units of work run on threads, and writes share their commits.

A unit of work is a plain function of a `Connection`. Nothing else in the program opens a connection. Whoever
has somebody waiting says for how long: then he is told in time, and told the truth (`GaveUp`, `InDoubt`).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.pool import ConnectionPoolEntry

from huibo.storage.dialects import one_of
from huibo.storage.prepared import Prepared, forget_details, run_plain
from huibo.storage.readers import Readers
from huibo.storage.tables import apps
from huibo.storage.writer import InDoubt, Job, Stage, Writer

log = structlog.get_logger()

T = TypeVar("T")
Work = Callable[[Connection], T]

PATIENCE_S = 5.0  # what a request waits for the database before it is answered that there is none
_READERS = 8
_CLOSE_S = 2.0
_WAL_TRIES, _WAL_RETRY_S = 100, 0.02
_LOCK_S = 4  # for what another process holds: less than the patience, so that the reason can be told
# How a server that is gone, not merely down, is noticed. Names of libpq; a URL may say otherwise.
_WATCHFUL = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class GaveUp(Exception):
    """The database did not answer in time; what was asked of it is not and will not be kept."""


# What is no fault of the unit of work.
TROUBLE = (GaveUp, InDoubt, OperationalError, InterfaceError, NoConnection)


class Database:
    """A database by its SQLAlchemy URL. Open it once per process; `close` waits for the writes under way."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._reader = reader_of(self.engine)
        self._closed = False
        self._writer = Writer(self.engine, _lock_apps if self.shared else None)
        self._readers = Readers(_READERS)

    @property
    def shared(self) -> bool:
        """Other processes may work on it, too."""
        return self.engine.dialect.name != "sqlite"

    async def write(self, work: Work[T], patience_s: float | None = None, of: str | None = None) -> T:
        """Run `work` in a transaction and return its result once that is committed.

        Whatever `work` raises is raised here, and nothing of it is kept; so is what the commit raises. After
        `patience_s` raises `GaveUp`. When it cannot be known whether it was kept: `InDoubt`. Until then it
        may run several times, of which one is kept. `of`: the app whose account or limits it decides upon;
        without it two processes may wait for each other.
        """
        job = self._job(work, of)
        self._writer.put(job)
        result: T = await _outcome(job, patience_s, self._writer.withdraw)
        return result

    async def read(self, work: Work[T], patience_s: float | None = None) -> T:
        """Run `work` on a connection of its own, beside the writer; it must not write.

        After `patience_s` raises `GaveUp`.
        """
        return await self.aside(lambda: self.read_now(work), patience_s)

    async def aside(self, function: Callable[[], T], patience_s: float | None = None) -> T:
        """Run what may hang with the database on a thread that the end of the process does not wait for."""
        job = self._job(lambda _: function())
        self._readers.put(job)
        result: T = await _outcome(job, patience_s, lambda _: Stage.WITHDRAWN)
        return result

    def read_now(self, work: Work[T]) -> T:
        """`read` for callers without an event loop."""
        with self._reader.connect() as connection:
            return work(connection)

    def write_now(self, work: Work[T]) -> T:
        """`write` for callers without an event loop (the command line)."""
        with self.engine.begin() as connection:
            return work(connection)

    async def close(self) -> None:
        """Waits for the writes under way, but not for long on a database that does not answer."""
        self._closed = True
        self._readers.end()
        ended = await asyncio.to_thread(self._writer.end, _CLOSE_S)
        event.listen(self.engine.pool, "checkin", _not_kept)
        self.engine.dispose()
        if not ended:
            log.error("database does not answer: what it was to write last is not kept")

    def _job(self, work: Work[Any], of: str | None = None) -> Job:
        if self._closed:
            raise RuntimeError("the database is closed")
        loop = asyncio.get_running_loop()
        return Job(work, loop, loop.create_future(), of=of)


def _not_kept(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    """A connection that comes back when the pool is disposed of is closed: nobody else will do that."""
    entry.invalidate()


async def _outcome(job: Job, patience_s: float | None, withdraw: Callable[[Job], Stage]) -> Any:
    """What comes of a job. After `patience_s` raises what can be said of it then."""
    if patience_s is None:
        return await job.future
    timer = job.loop.call_later(patience_s, _give_up, job, patience_s, withdraw)
    try:
        return await job.future
    finally:
        timer.cancel()


def _give_up(job: Job, patience_s: float, withdraw: Callable[[Job], Stage]) -> None:
    stage = withdraw(job)
    if job.future.done():
        return
    if stage is Stage.COMMITTING:
        doubt = InDoubt(f"the database did not say within {patience_s:g} s whether it was kept")
        job.future.set_exception(doubt)
    elif stage is Stage.WITHDRAWN:
        job.future.set_exception(GaveUp(f"the database did not answer within {patience_s:g} s"))
    # else it is over, and this loop is about to hear of it


def open_engine(url: str) -> Engine:
    """An SQLAlchemy engine with this product's settings for that kind of database."""
    parsed = make_url(url)
    server = parsed.get_backend_name() != "sqlite"
    kept = server or parsed.database not in (None, "", ":memory:")
    # beyond the size each use opens and closes one; the one that was used last knows most statements
    sizes = {"pool_size": _READERS + 2, "pool_use_lifo": True} if kept else {}
    engine = create_engine(
        parsed,
        hide_parameters=True,  # errors are logged; numbers and passwords are not
        connect_args=watchful(parsed),
        pool_pre_ping=server,  # one that was restarted costs nobody an error
        **sizes,
    )
    if engine.dialect.name == "sqlite":
        _make_private(sqlite_file(url))
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgres)
        event.listen(engine, "handle_error", _forget_details)
    return engine


def watchful(url: URL) -> dict[str, int]:
    """What a connection needs to notice that the other side is gone."""
    if url.get_backend_name() == "sqlite":
        return {}
    return {name: value for name, value in _WATCHFUL.items() if name not in url.query}


def reader_of(engine: Engine) -> Engine:
    """The same database for units of work that only read: each sees it as of one moment."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(reading=True)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def sqlite_file(url: str) -> Path | None:
    """The file behind an SQLite URL, None for other databases."""
    parsed = make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def _holding(skip: bool) -> Prepared:
    return Prepared(
        lambda dialect: (
            select(apps.c.app_id)
            .where(one_of(dialect, apps.c.app_id, "app_ids"))
            .order_by(apps.c.app_id)
            .with_for_update(skip_locked=skip)
        )
    )


_hold_apps, _hold_free_apps = _holding(skip=False), _holding(skip=True)


def _lock_apps(connection: Connection, must: Sequence[str], may: Sequence[str]) -> set[str]:
    if must:
        _hold_apps.all(connection, {"app_ids": must})
    return {row[0] for row in _hold_free_apps.all(connection, {"app_ids": may})} if may else set()


def _make_private(file: Path | None) -> None:
    """A new database file is its owner's alone: there are passwords of trunks in it."""
    if file is not None and str(file) != ":memory:" and not file.exists() and file.parent.is_dir():
        file.touch(mode=0o600)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 5000")
    _begin_wal(cursor)
    cursor.execute("PRAGMA synchronous = FULL")  # a step is on disk before the phone rings
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_wal(cursor: Any) -> None:
    """Two processes that open a new file at once are in each other's way here, and SQLite does not wait."""
    for left in reversed(range(_WAL_TRIES)):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not left or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(_WAL_RETRY_S)


def _prepare_postgres(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{_LOCK_S}s'")
    connection.commit()


def _forget_details(context: ExceptionContext) -> None:
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None:
            forget_details(error)


def _begin_sqlite(connection: Connection) -> None:
    """Writers queue up at once rather than fail half-way; readers hinder nobody (WAL)."""
    reading = connection.get_execution_options().get("reading", False)
    run_plain(connection, "BEGIN" if reading else "BEGIN IMMEDIATE")
