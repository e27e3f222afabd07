"""A small disk of our own for the folders of recordings, seen by this process and its children alone.

Needs the right to mount; where that is not given there is no such disk, and no such fault.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def part_from_others() -> bool:
    """Give this process a view of the mounts of its own, before it has a second thread; whether it could."""
    if _libc.unshare(_CLONE_NEWNS) != 0:
        return False
    return bool(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) == 0)


def let_go_below(folder: Path) -> None:
    """Take away the disks that are mounted in a folder, so that it can be removed."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        mounted = line.split()[1]
        if Path(mounted).is_relative_to(folder):
            _libc.umount2(os.fsencode(mounted), _MNT_DETACH)


class SmallDisk:
    """A folder that is a file system of `megabytes`."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self._filling = folder / ".filling"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = f"size={megabytes}m,mode=700".encode()
        if _libc.mount(b"huibo-faults", os.fsencode(folder), b"tmpfs", 0, options) != 0:
            raise OSError(ctypes.get_errno(), f"cannot mount over {folder}")

    def fill(self) -> None:
        """Not a byte more goes onto it."""
        with self._filling.open("ab") as file:
            for size in (1 << 20, 1 << 12):
                block = bytes(size)
                try:
                    while True:
                        os.write(file.fileno(), block)
                except OSError:
                    pass

    def empty(self) -> None:
        self._filling.unlink(missing_ok=True)
