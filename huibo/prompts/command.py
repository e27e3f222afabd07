"""A voice that is a program: the text on its standard input, a sound file on its standard output.

Started anew for each text, without a shell, in a process group of its own that is ended with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from huibo.prompts.text import language_of, spoken
from huibo.prompts.voice import Gender, VoiceFailed, filled

_COMPLAINT_BYTES = 2000
_END_S = 1.0


class CommandVoice:
    """`huibo.prompts.voice.Voice`. In the arguments `$gender` becomes female or male, `$language` zh or en.

    `spell_out`: the program gets the text with numbers written out. `max_bytes`: of its output.
    """

    name = "command"

    def __init__(self, argv: Sequence[str], *, timeout_s: float, max_bytes: int, spell_out: bool) -> None:
        self._argv = tuple(argv)
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._spell_out = spell_out

    def fingerprint(self, text: str, gender: Gender) -> str:
        return json.dumps(["command", self._argv, self._spell_out, gender, text])

    async def say(self, text: str, gender: Gender) -> bytes:
        words = {"gender": gender.name.lower(), "language": language_of(text).value}
        argv = [filled(part, words) for part in self._argv]
        run = _Run(self._max_bytes)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.subprocess_exec(lambda: run, *argv, start_new_session=True)
        except OSError as error:
            raise VoiceFailed(f"voice command: {argv[0]} does not start: {error.strerror}") from error
        try:
            _feed(transport, spoken(text) if self._spell_out else text)
            async with asyncio.timeout(self._timeout_s):
                await run.finished.wait()
        except TimeoutError:
            raise VoiceFailed(f"voice command: not done within {self._timeout_s:g} s") from None
        finally:
            await run.end(transport)
        return self._judged(run, transport.get_returncode())

    async def close(self) -> None:
        """Nothing is kept running."""

    def _judged(self, run: _Run, code: int | None) -> bytes:
        if len(run.output) > self._max_bytes:
            raise VoiceFailed(f"voice command: more than {self._max_bytes} bytes of output")
        if code:
            complaint = run.last_complaint()
            raise VoiceFailed(f"voice command: exit code {code}{complaint and ': '}{complaint}")
        if not run.output:
            raise VoiceFailed("voice command: no output")
        return bytes(run.output)


class _Run(asyncio.SubprocessProtocol):
    """One run: finished when the program has ended and its outputs are closed, or it has said too much."""

    def __init__(self, max_bytes: int) -> None:
        self.output = bytearray()
        self.finished = asyncio.Event()
        self._max_bytes = max_bytes
        self._complaints = b""
        self._exited = asyncio.Event()
        self._open = {1, 2}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self._complaints = (self._complaints + data)[-_COMPLAINT_BYTES:]
        elif len(self.output) <= self._max_bytes:
            self.output += data
            self._look()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        self._look()

    def process_exited(self) -> None:
        self._exited.set()
        self._look()

    def last_complaint(self) -> str:
        lines = self._complaints.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    async def end(self, transport: asyncio.SubprocessTransport) -> None:
        """End the program and what it started. What has left its group may live on, but holds up nobody."""
        with suppress(ProcessLookupError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._exited.wait()
        transport.close()

    def _look(self) -> None:
        if (self._exited.is_set() and not self._open) or len(self.output) > self._max_bytes:
            self.finished.set()


def _feed(transport: asyncio.SubprocessTransport, text: str) -> None:
    """A program need not read its input; one that has closed it already is no error either (uvloop says so)."""
    pipe = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
    with suppress(OSError, RuntimeError):
        pipe.write(text.encode("utf-8", "ignore"))
        pipe.write_eof()
