"""Where finished recordings are kept: what a store can do, and the store in a local folder.

Keys are `YYYY/MM/DD/<callId>.<format>`. Knows nothing of calls, links or how long anything is kept.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

_STEP = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)
_CHUNK = 64 * 1024
_NO_LINKS = (errno.ELOOP, errno.ENOTDIR)


class Stored(Protocol):
    """An open recording."""

    @property
    def size(self) -> int:
        """Bytes."""

    def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """What lies from `start` up to, not including, `end`."""

    async def close(self) -> None: ...


class Store(Protocol):
    """A place for finished recordings. Every method raises `OSError` when the place fails."""

    async def put(self, path: Path, key: str) -> None:
        """Take a complete file over, replacing what is there: whole or not at all. `path` is gone then."""

    async def open(self, key: str) -> Stored:
        """Raises `FileNotFoundError`."""

    async def delete(self, key: str) -> None:
        """A key without a file is not an error."""


def key_of(call_id: str, at: int, ending: str) -> str:
    """The key of a call's recording; `at` (UNIX ms) is when it was asked for, so that it never changes."""
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y/%m/%d}/{call_id}.{ending}"


class LocalStore:
    """`Store` in a folder of its own: folders 0700, files 0600, nothing outside is ever touched."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, path: Path, key: str) -> None:
        await asyncio.to_thread(self._put, path, self._path(key))

    async def open(self, key: str) -> Stored:
        return await asyncio.to_thread(_open, self._path(key))

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._delete, self._path(key))

    def _path(self, key: str) -> Path:
        steps = key.split("/")
        if not all(_STEP.fullmatch(step) for step in steps):
            raise FileNotFoundError(errno.ENOENT, "not a key", key)
        return self._folder.joinpath(*steps)

    def _put(self, path: Path, kept: Path) -> None:
        self._make_folders(kept.parent)
        try:
            path.replace(kept)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(path, kept)
            path.unlink()
        _sync(kept.parent)

    def _make_folders(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != self._folder:
            self._make_folders(folder.parent)
        folder.mkdir(mode=0o700, parents=folder == self._folder, exist_ok=True)
        _sync(folder.parent)

    def _delete(self, kept: Path) -> None:
        kept.unlink(missing_ok=True)
        with suppress(OSError):  # the day's, month's and year's folder, once nothing is left in them
            for folder in kept.parents:
                if folder == self._folder:
                    break
                folder.rmdir()


class _LocalFile:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    async def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            chunk = await asyncio.to_thread(os.pread, self._file.fileno(), min(_CHUNK, end - start), start)
            if not chunk:
                raise OSError(errno.EIO, "the file has become shorter")
            start += len(chunk)
            yield chunk

    async def close(self) -> None:
        self._file.close()


def _open(path: Path) -> _LocalFile:
    return _LocalFile(open(path, "rb", buffering=0))


def _copy(path: Path, kept: Path) -> None:
    """Onto another file system: never half a file under the final name."""
    partial = kept.with_name(f".{kept.name}.partial")
    try:
        with path.open("rb") as source, open(partial, "wb", opener=_private) as target:
            shutil.copyfileobj(source, target, _CHUNK)
            target.flush()
            os.fsync(target.fileno())
        partial.replace(kept)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
