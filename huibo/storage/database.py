"""One database, from asyncio: units of work run on threads, and writes share their commits.

A unit of work is a plain function of a `Connection`. Writes go through one thread which puts all that wait
into one transaction (group commit), each behind a savepoint of its own, so that a call costs rows, not
fsyncs, and one that fails takes no other with it. Nothing else in the program opens a connection.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")
Work = Callable[[Connection], T]

_BATCH = 256  # bounds how long the first of a batch waits for the last


@dataclass(slots=True)
class _Job:
    work: Work[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Database:
    """A database by its SQLAlchemy URL. Open it once per process; `close` waits for the writes under way."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._reader = reader_of(self.engine)
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_loop, name="huibo-writer", daemon=True)
        self._thread.start()

    @property
    def shared(self) -> bool:
        """Other processes may work on it, too."""
        return self.engine.dialect.name != "sqlite"

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction and return its result once that is committed.

        Whatever `work` raises is raised here, and nothing of it is kept; so is what the commit raises.
        """
        if self._closed:
            raise RuntimeError("the database is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(work, loop, future))
        return await future

    async def read(self, work: Work[T]) -> T:
        """Run `work` on a connection of its own, beside the writer; it must not write."""
        return await asyncio.to_thread(self.read_now, work)

    def read_now(self, work: Work[T]) -> T:
        """`read` for callers without an event loop."""
        with self._reader.connect() as connection:
            return work(connection)

    def write_now(self, work: Work[T]) -> T:
        """`write` for callers without an event loop (the command line)."""
        with self.engine.begin() as connection:
            return work(connection)

    async def close(self) -> None:
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self.engine.dispose()

    def _write_loop(self) -> None:
        while True:
            first = self._jobs.get()
            if first is None:
                return
            batch = [first]
            last = False
            while len(batch) < _BATCH and not self._jobs.empty():
                job = self._jobs.get()
                if job is None:
                    last = True
                    break
                batch.append(job)
            self._commit(batch)
            _resolve(batch)
            if last:
                return

    def _commit(self, batch: list[_Job]) -> None:
        try:
            with self.engine.begin() as connection:
                for job in batch:
                    _run(job, connection)
        except Exception as error:  # the commit itself, or the connection: nobody's work was kept
            for job in batch:
                job.error = job.error or error


def open_engine(url: str) -> Engine:
    """An SQLAlchemy engine with this product's settings for that kind of database."""
    engine = create_engine(url, hide_parameters=True)  # errors are logged; numbers and passwords are not
    if engine.dialect.name == "sqlite":
        _make_private(sqlite_file(url))
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "handle_error", _forget_details)
    return engine


def reader_of(engine: Engine) -> Engine:
    """The same database for units of work that only read: each sees it as of one moment."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(reading=True)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def sqlite_file(url: str) -> Path | None:
    """The file behind an SQLite URL, None for other databases."""
    parsed = make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def _make_private(file: Path | None) -> None:
    """A new database file is its owner's alone: there are passwords of trunks in it."""
    if file is not None and str(file) != ":memory:" and not file.exists() and file.parent.is_dir():
        file.touch(mode=0o600)


def _run(job: _Job, connection: Connection) -> None:
    savepoint = connection.begin_nested()
    try:
        job.result = job.work(connection)
    except BaseException as error:  # the writer outlives whatever a unit does
        # a future takes no StopIteration
        job.error = RuntimeError("StopIteration") if isinstance(error, StopIteration) else error
        try:
            savepoint.rollback()
        except DBAPIError:
            # SQLite gives up the whole transaction when the disk is full: nobody's work was kept
            raise job.error from None
    else:
        savepoint.commit()


def _resolve(batch: list[_Job]) -> None:
    for loop in {job.loop for job in batch}:
        jobs = [job for job in batch if job.loop is loop]
        with suppress(RuntimeError):  # closed meanwhile: nobody waits there any more
            loop.call_soon_threadsafe(_hand_back, jobs)


def _hand_back(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue  # whoever waited has gone; the work is done all the same
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a step is on disk before the phone rings
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _forget_details(context: ExceptionContext) -> None:
    """PostgreSQL tells in the lines after the first what was in the row: numbers do not belong in a log."""
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None and error.args:
            error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])


def _begin_sqlite(connection: Connection) -> None:
    """Writers queue up at once rather than fail half-way; readers hinder nobody (WAL)."""
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
