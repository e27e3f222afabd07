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

from sqlalchemy import Connection, Engine, text

_RETRY_S = 0.1
_NAMESPACE = 0x6875  # of our advisory locks


class Taken(Exception):
    """Another process is this cell."""


class Tenure:
    """`take` it at the start, `renew` it now and then, `end` it."""

    def __init__(self, engine: Engine, cell: str) -> None:
        self._engine = engine
        self._cell = cell
        self._connection: Connection | None = None
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
        if self._connection is None:
            return
        try:
            self._connection.execute(text("SELECT 1"))
        except Exception:
            self.end()
            self.take(0)

    def end(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # the lock is the connection's: it must not go back to the pool
            self._connection.close()
            self._connection = None
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _try(self) -> bool:
        if self._engine.dialect.name == "sqlite":
            return self._try_file()
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        key = zlib.crc32(self._cell.encode()) - 2**31
        query = text("SELECT pg_try_advisory_lock(:space, :key)")
        if connection.execute(query, {"space": _NAMESPACE, "key": key}).scalar_one():
            self._connection = connection
            return True
        connection.close()
        return False

    def _try_file(self) -> bool:
        database = self._engine.url.database
        if not database or database == ":memory:":
            return True
        file = os.open(Path(database).with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True
