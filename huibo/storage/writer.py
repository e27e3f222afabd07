"""The one thread that writes: takes all that wait into one transaction.

Nearly always none of them fails. When one does, all are run again, each behind a savepoint of its own: then
the one that fails takes no other with it. The connection is kept: SQLite forgets all pages that it has read
when another one has written.
Whoever has given up waiting is told the truth: a unit that was withdrawn is not kept, and of one whose commit
was not heard of nothing is claimed. Knows nothing of what the units do.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

_BATCH = 256  # bounds how long the first of a batch waits for the last
_COLLISIONS, _BACK_OFF_S = 5, 0.05  # how often a unit is tried again, and what may lie between
_SQLITE_BUSY, _SQLITE_FULL = 5, 13
_LOCK_NOT_TO_BE_HAD, _DEADLOCK, _NOT_SERIALIZABLE = "55P03", "40P01", "40001"
_CONNECTION_LOST = ("08", "57P")  # how the codes begin that say nothing of a commit under way


Lock = Callable[[Connection, Sequence[str], Sequence[str]], set[str]]


class InDoubt(Exception):
    """It is not known whether a unit of work was kept: the connection, or the patience, ended too early."""


class _Withdrawn(Exception):
    """The transaction holds what must not be kept."""


class _OneFailed(Exception):
    """Of several units in one transaction, none of which can be taken out of it; or the only one."""


class Stage(Enum):
    """How far a unit of work is."""

    WAITING = auto()
    RUN = auto()  # it has run, and can still be left out
    COMMITTING = auto()  # it cannot any more
    OVER = auto()
    WITHDRAWN = auto()  # nobody waits for it, and it must not be kept


@dataclass(slots=True, eq=False)
class Job:
    """A unit of work, and who waits for it. It may be run more than once; what counts is its last run."""

    work: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    of: str | None = None  # the app whose money or limits it is about
    stage: Stage = Stage.WAITING
    ran: bool = False  # what it did is part of the transaction
    collisions: int = 0  # with other processes
    passed: bool = False  # over, for another process was busy with its app


class Writer:
    """`put` jobs; `end` once there are no more to come."""

    def __init__(self, engine: Engine, lock: Lock | None) -> None:
        """`lock`: takes hold of apps before anything is done about them: waits for the first ones, in an
        order that is everybody's, and takes those of the others that are free, which it returns."""
        self._engine = engine
        self._lock = lock
        self._connection: Connection | None = None
        self._hurried = False  # the next transaction waits for no lock
        self._stages = threading.Lock()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="huibo-writer", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        self._jobs.put(job)

    def withdraw(self, job: Job) -> Stage:
        """See to it that a unit is not kept, where that can still be done. Returns its stage: withdrawn,
        or too late for that."""
        with self._stages:
            failed = job.stage is Stage.COMMITTING and not job.ran
            if failed or job.stage in (Stage.WAITING, Stage.RUN):
                job.stage = Stage.WITHDRAWN
            return job.stage

    def end(self, patience_s: float) -> bool:
        """Write what is left and stop. False: it hangs in the database for longer than that."""
        self._jobs.put(None)
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        last, batch = False, list[Job]()
        while not last or batch:
            last = self._gather(batch, last)
            later, run = list[Job](), _run
            while batch:
                again, passed = self._commit(batch, run)
                hand_back([job for job in batch if job not in again and job not in passed])
                later += passed
                run, batch = _run_apart, again
            batch = later
        self._let_go()

    def _gather(self, batch: list[Job], last: bool) -> bool:
        """Add what waits, so that there is something to do. Returns whether it was the last."""
        while not last and len(batch) < _BATCH and (not batch or not self._jobs.empty()):
            job = self._jobs.get()
            if job is None:
                return True
            batch.append(job)
        return last

    def _commit(
        self, batch: Sequence[Job], run: Callable[[Job, Connection], None]
    ) -> tuple[list[Job], list[Job]]:
        """One transaction. Returns the jobs that are to be run once more, in another one, and those passed
        over."""
        passed: list[Job] = []
        again = self._try(batch, run, passed)
        with self._stages:
            for job in batch:
                if job not in again and job not in passed and job.stage is not Stage.WITHDRAWN:
                    job.stage = Stage.OVER
        return again, passed

    def _try(
        self, batch: Sequence[Job], run: Callable[[Job, Connection], None], passed: list[Job]
    ) -> list[Job]:
        """`_commit`, but that it leaves the jobs in the stage that they have come to."""
        hurried, self._hurried = self._hurried, False
        try:
            connection = self._connected()
            with connection.begin():
                if hurried:
                    _wait_no_more(connection)
                now = self._held(connection, batch, wait=run is _run_apart)
                for job in now:
                    if self._take(job):
                        run(job, connection)
                self._pass_the_last_turn(now)
            passed += [job for job in batch if job not in now]
            return self._collided(now)
        except _Withdrawn:
            return self._begin_again(batch)
        except _OneFailed:
            if len(batch) > 1 or connection.invalidated:
                return self._begin_again(batch)
            return self._collided(batch)
        except Exception as error:  # the commit itself, or the connection: nobody's work was kept
            self._let_go()
            committing = [job for job in batch if job.stage is Stage.COMMITTING]
            if run is _run and _is_lost(error) and not committing:
                return self._begin_again(batch)
            for job in committing:
                if job.ran and _says_nothing(error):
                    job.error = InDoubt(str(error).partition("\n")[0])
            for job in batch:
                job.error = job.error or error
            return []

    def _held(self, connection: Connection, batch: Sequence[Job], wait: bool) -> Sequence[Job]:
        """The jobs whose apps this transaction has got hold of.

        An app that another process is busy with is waited for only by who has been passed over for it once:
        else two processes would take turns with all that they have to do.
        """
        apps = {job.of for job in batch if job.of is not None}
        if self._lock is None or not apps:
            return batch
        must = apps if wait else {job.of for job in batch if job.of is not None and job.passed}
        held = must | self._lock(connection, sorted(must), sorted(apps - must))
        for job in batch:
            job.passed = job.of is not None and job.of not in held
        return [job for job in batch if not job.passed]

    def _connected(self) -> Connection:
        """On the connection of the last transaction, unless it was lost.

        It may have been lost since: that is noticed when it is used, and then all is run again on another.
        """
        if self._connection is not None and self._connection.invalidated:
            self._let_go()
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _let_go(self) -> None:
        """Of the connection, in whatever state it is: the pool sees to that."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # of one that is lost
                connection.close()

    def _take(self, job: Job) -> bool:
        with self._stages:
            if job.stage is Stage.WITHDRAWN:
                return False
            job.stage, job.ran, job.error = Stage.RUN, False, None
            return True

    def _pass_the_last_turn(self, batch: Sequence[Job]) -> None:
        """From here on nobody can withdraw. Raises `_Withdrawn` when somebody has whose unit has run."""
        with self._stages:
            if any(job.stage is Stage.WITHDRAWN and job.ran for job in batch):
                raise _Withdrawn
            for job in batch:
                if job.stage is Stage.RUN:
                    job.stage = Stage.COMMITTING

    def _collided(self, batch: Sequence[Job]) -> list[Job]:
        """Those that another process was in the way of: they lost to it, soon there is room."""
        with self._stages:
            could = (Stage.RUN, Stage.COMMITTING)
            again = [job for job in batch if job.stage in could and _is_collision(job)]
            for job in again:
                job.stage, job.error, job.collisions = Stage.WAITING, None, job.collisions + 1
        if again:
            # who won has yet to wake up: who is back before takes the row from it, and they collide anew
            time.sleep(random.uniform(0, _BACK_OFF_S))
        return again

    def _begin_again(self, batch: Sequence[Job]) -> list[Job]:
        """Without those that were withdrawn after they had run."""
        with self._stages:
            again = [job for job in batch if job.stage is not Stage.WITHDRAWN]
            self._hurried = any(sqlstate(job.error) == _LOCK_NOT_TO_BE_HAD for job in again)
            for job in again:
                job.stage, job.error = Stage.WAITING, None
            return again


def _run(job: Job, connection: Connection) -> None:
    """Raises `_OneFailed`: the transaction is to be given up."""
    try:
        job.result = job.work(connection)
    except BaseException as error:  # the writer outlives whatever a unit does
        job.error = given_back(error)
        raise _OneFailed from None
    job.ran = True


def _run_apart(job: Job, connection: Connection) -> None:
    """One that fails takes no other with it."""
    savepoint = connection.begin_nested()
    try:
        job.result = job.work(connection)
    except BaseException as error:
        job.error = given_back(error)
        try:
            savepoint.rollback()
        except DBAPIError:
            # SQLite gives up the whole transaction when the disk is full: nobody's work was kept
            raise job.error from None
        if sqlstate(error) == _LOCK_NOT_TO_BE_HAD:
            _wait_no_more(connection)
    else:
        savepoint.commit()
        job.ran = True


def _wait_no_more(connection: Connection) -> None:
    """One of the batch has waited for a lock in vain: the others shall not all wait as long."""
    connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")


def given_back(error: BaseException) -> BaseException:
    """What a future can be told of an error."""
    return RuntimeError("StopIteration") if isinstance(error, StopIteration) else error


def sqlstate(error: BaseException | None) -> str | None:
    """PostgreSQL's code of an error; None: it has none."""
    code = getattr(getattr(error, "orig", None), "sqlstate", None)
    return str(code) if code else None


def _is_lost(error: BaseException) -> bool:
    """Whether an error says that there is no connection any more."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _is_collision(job: Job) -> bool:
    if job.error is None or job.collisions == _COLLISIONS:
        return False
    return sqlstate(job.error) in (_DEADLOCK, _NOT_SERIALIZABLE)


def _says_nothing(error: Exception) -> bool:
    """Whether an error of a commit leaves open what became of it."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    if (code := sqlstate(error)) is not None:
        return code.startswith(_CONNECTION_LOST)
    return getattr(error.orig, "sqlite_errorcode", None) not in (_SQLITE_BUSY, _SQLITE_FULL)


def hand_back(jobs: Sequence[Job]) -> None:
    """Give results and errors to those who wait, each in its own event loop."""
    for loop in {job.loop for job in jobs}:
        own = [job for job in jobs if job.loop is loop]
        with suppress(RuntimeError):  # closed meanwhile: nobody waits there any more
            loop.call_soon_threadsafe(_hand_over, own)


def _hand_over(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue  # whoever waited has gone; the work is done all the same
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
