"""A voice that is a program: the text on its standard input, a sound file on its standard output.

Started anew for each text, without a shell, in a process group of its own that is ended with it.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import Sequence

from huibo.prompts.program import Program
from huibo.prompts.text import language_of, spoken
from huibo.prompts.voice import Gender, VoiceFailed, filled

_COMPLAINT_BYTES = 2000


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
        try:
            run = await _Run(self._max_bytes).start(argv, stderr=PIPE)
        except OSError as error:
            raise VoiceFailed(f"voice command: {argv[0]} does not start: {error.strerror}") from error
        try:
            run.feed((spoken(text) if self._spell_out else text).encode("utf-8", "ignore"), last=True)
            async with asyncio.timeout(self._timeout_s):
                await run.finished.wait()
        except TimeoutError:
            raise VoiceFailed(f"voice command: not done within {self._timeout_s:g} s") from None
        finally:
            await run.end()
        return self._judged(run)

    async def close(self) -> None:
        """Nothing is kept running."""

    def _judged(self, run: _Run) -> bytes:
        if len(run.output) > self._max_bytes:
            raise VoiceFailed(f"voice command: more than {self._max_bytes} bytes of output")
        if code := run.transport.get_returncode():
            complaint = run.last_complaint()
            raise VoiceFailed(f"voice command: exit code {code}{complaint and ': '}{complaint}")
        if not run.output:
            raise VoiceFailed("voice command: no output")
        return bytes(run.output)


class _Run(Program):
    """One run: finished when the program has ended and its outputs are closed, or it has said too much."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.output = bytearray()
        self.finished = asyncio.Event()
        self._max_bytes = max_bytes
        self._complaints = b""
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
        super().process_exited()
        self._look()

    def last_complaint(self) -> str:
        lines = self._complaints.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _look(self) -> None:
        if (self.exited.is_set() and not self._open) or len(self.output) > self._max_bytes:
            self.finished.set()
