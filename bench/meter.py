"""What processes cost: CPU time and memory as the kernel counts them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024


def cpu_ms(pid: int) -> float:
    """User and system time so far of a process and of all that it has started."""
    spent = 0.0
    main = psutil.Process(pid)
    for process in (main, *main.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system + times.children_user + times.children_system
    return spent * 1000


def rss_kb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB


def pin(pid: int, cores: Sequence[int]) -> None:
    """Have a process, its threads and its children run on these cores only, and what they start later."""
    main = psutil.Process(pid)
    for process in (main, *main.children(recursive=True)):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            for thread in process.threads():
                os.sched_setaffinity(thread.id, cores)


class Meter:
    """CPU time of named processes between its making and `read`."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._began = {name: cpu_ms(pid) for name, pid in self._pids.items()}

    def read(self) -> dict[str, float]:
        """Milliseconds by name."""
        return {name: cpu_ms(pid) - self._began[name] for name, pid in self._pids.items()}
