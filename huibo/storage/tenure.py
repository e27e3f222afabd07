"""The right to be a cell: one process at a time has it, as long as it lives.

PostgreSQL: an advisory lock of a connection that is kept; SQLite: a lock on a file beside the database. Both
go with the process, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text

_RETRY_S = 0.1
_NAMESPACE = 0x6875  # of our advisory locks

_TRY = text("SELECT pg_try_advisory_lock(:space, :key)")
_SELF = text("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
_END_OUR_OWN = text("""
    SELECT pg_terminate_backend(a.pid, 2000) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid
    WHERE a.pid = :pid AND a.backend_start = :since AND l.locktype = 'advisory'
    AND l.classid = :space AND l.objid = CAST(CAST(:key AS bigint) & 4294967295 AS oid)
""")


class Taken(Exception):
    """Another process is this cell."""


class Tenure:
    """`take` it at the start, `renew` it now and then, `end` it."""

    def __init__(self, engine: Engine, cell: str) -> None:
        self._engine = engine
        self._cell = cell
        self._taken = False  # and not ended, whatever became of the connection
        self._connection: Connection | None = None
        self._backend: dict[str, Any] = {}  # which connection it was, as the server knows it
        self._file: int | None = None

    def take(self, patience_s: float) -> None:
        """Wait for the right; raises `Taken` when another process keeps it for so long."""
        deadline = time.monotonic() + patience_s
        while not self._try():
            if time.monotonic() > deadline:
                raise Taken(
                    f"another huibo runs as cell {self._cell} on this database: "
                    "stop it, or give this one another name in cell.name"
                )
            time.sleep(_RETRY_S)

    def renew(self) -> None:
        """After the loss of the database's connection: take it again. Raises `Taken`."""
        if not self._taken or self._engine.dialect.name == "sqlite":
            return
        if self._connection is not None:
            try:
                self._connection.execute(text("SELECT 1"))
                return
            except Exception:
                self._let_go()
        self.take(0)

    def end(self) -> None:
        self._taken = False
        self._let_go()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # the lock is the connection's: it must not go back to the pool
            self._connection.close()
            self._connection = None

    def _try(self) -> bool:
        taken = self._try_file() if self._engine.dialect.name == "sqlite" else self._try_server()
        self._taken |= taken
        return taken

    def _try_server(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        key = {"space": _NAMESPACE, "key": zlib.crc32(self._cell.encode()) - 2**31}
        try:
            taken: bool = connection.execute(_TRY, key).scalar_one()
            if not taken and self._taken:
                # a connection that broke off lives on at the server, until that notices
                connection.execute(_END_OUR_OWN, key | self._backend)
                taken = connection.execute(_TRY, key).scalar_one()
            if taken:
                pid, since = connection.execute(_SELF).one()
                self._backend = {"pid": pid, "since": since}
                self._connection = connection
        finally:
            if self._connection is not connection:
                connection.close()
        return taken

    def _try_file(self) -> bool:
        database = self._engine.url.database
        if not database or database == ":memory:":
            return True
        self._file = lock_file(Path(database))
        return self._file is not None


def lock_file(database: Path) -> int | None:
    """The right to an SQLite database, as an open file; None: a huibo that runs has it."""
    file = os.open(database.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file
