"""The helper processes that finish recordings: started when needed, used again, ended when idle.

Owns processes only. A helper that dies or takes too long is replaced, and its job has failed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import huibo
from huibo.recording.job import Job, Made, Unfinished

_ARGV = (sys.executable, "-m", "huibo.recording.finish_main")
_ROOT = Path(huibo.__file__).parents[1]  # `-m` finds the package there, installed or not
_LEAVE_S = 2.0


class Helpers:
    """Finishes files, each in a process of its own; how many at once is the caller's to bound."""

    def __init__(self, idle_s: float = 30.0) -> None:
        """`idle_s`: how long a helper waits for its next job before it is ended."""
        self._idle_s = idle_s
        self._busy: set[Process] = set()
        self._idle: dict[Process, asyncio.TimerHandle] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def pids(self) -> set[int]:
        """The processes that work or wait for work."""
        return {process.pid for process in (*self._idle, *self._busy) if process.returncode is None}

    async def finish(self, job: Job, limit_s: float) -> Made:
        """Have a job done. Raises `Unfinished`, also when the helper dies or takes more than `limit_s`."""
        process = await self._take()
        try:
            async with asyncio.timeout(limit_s):
                answer = await _ask(process, job)
        except TimeoutError:
            raise Unfinished(f"helper process took more than {limit_s:.0f} s") from None
        except (ConnectionError, EOFError):
            code = await process.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise Unfinished(f"helper process died ({how})") from None
        else:
            self._idle[process] = asyncio.get_running_loop().call_later(self._idle_s, self._dismiss, process)
        finally:
            self._busy.discard(process)
            if process not in self._idle and process.returncode is None:
                process.kill()
                await process.wait()
        if "reason" in answer:
            raise Unfinished(answer["reason"], answer["blameless"])
        return Made(**answer | {"silent": tuple(answer["silent"])})

    async def close(self) -> None:
        """End all that are idle. Jobs under way are to be cancelled before."""
        for process in list(self._idle):
            self._dismiss(process)
        await asyncio.gather(*self._leaving)

    async def _take(self) -> Process:
        while self._idle:
            process, timer = self._idle.popitem()
            timer.cancel()
            if process.returncode is None:
                break
        else:
            process = await asyncio.create_subprocess_exec(
                *_ARGV, stdin=PIPE, stdout=PIPE, cwd=_ROOT, start_new_session=True
            )
        self._busy.add(process)
        return process

    def _dismiss(self, process: Process) -> None:
        self._idle.pop(process).cancel()
        task = asyncio.create_task(_leave(process), name=f"dismiss-{process.pid}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


async def _ask(process: Process, job: Job) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(job), default=str).encode() + b"\n")
    await process.stdin.drain()
    line = await process.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer: dict[str, Any] = json.loads(line)
    return answer


async def _leave(process: Process) -> None:
    """The end of its input is the end of a helper."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_LEAVE_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
