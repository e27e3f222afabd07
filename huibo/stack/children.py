"""Child processes that are kept alive: started, watched, started again when they die, ended together.

Owns the processes it started and no other. A child dies with this process, even when that is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_STOP_S = 10
_QUICK_S = 2  # a child that dies sooner is started again more slowly each time
_SLOWEST_S = 5.0


class ChildFailed(Exception):
    """A child did not come up. The message says which, and where to read why."""


@dataclass(slots=True)
class Child:
    """One process. `answers` returns when it does its work; it is given up after `patience_s`."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path  # its output
    answers: Callable[[], Awaitable[bool]]
    patience_s: float = 20.0
    process: asyncio.subprocess.Process | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self.argv,
                env=dict(self.env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_die_with_parent,
                start_new_session=True,  # Ctrl-C in the terminal is for us to pass on, in order
            )

    async def wait_until_it_answers(self) -> None:
        """Raises `ChildFailed` when it ends first or takes too long."""
        try:
            async with asyncio.timeout(self.patience_s):
                while not await self.answers():
                    if not self.alive:
                        raise ChildFailed(f"{self.name} ended at once: {self._last_line()} (see {self.log})")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ChildFailed(f"{self.name} does not answer: see {self.log}") from None

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


async def keep_alive(
    child: Child, on_death: Callable[[Child], None], on_return: Callable[[Child], Awaitable[None]]
) -> None:
    """Start a child again whenever it dies, until cancelled."""
    loop = asyncio.get_running_loop()
    pause_s = 0.0
    while True:
        assert child.process is not None
        started = loop.time()
        await child.process.wait()
        on_death(child)
        pause_s = min(_SLOWEST_S, pause_s + 0.5) if loop.time() - started < _QUICK_S else 0.0
        await asyncio.sleep(pause_s)
        try:
            await child.start()
            await child.wait_until_it_answers()
        except (ChildFailed, OSError):
            await child.stop()  # and the next turn tries again
        else:
            await on_return(child)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
