"""The default voice: espeak-ng in a helper process. Offline, plain, quick; Chinese and English.

Owns the helper: started on first use, kept, replaced when it dies, hangs or answers nonsense. That fails the
text in hand and no other. Never loads the library itself (docs/decisions/0013-offline-voice.md).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from huibo.prompts.program import Program
from huibo.prompts.voice import Gender, VoiceFailed

_ROOT = Path(__file__).parents[2]
_WORKER = (sys.executable, "-m", "huibo.prompts.espeak_worker")
_MAX_BYTES = 64 * 1024 * 1024
_SOUND, _REFUSAL = b"\0RIFF", b"\1"  # how an answer begins


class EspeakVoice:
    """`huibo.prompts.voice.Voice`. One text at a time: it takes milliseconds."""

    name = "espeak"

    def __init__(
        self, *, timeout_s: float, words_per_minute: int = 150, worker: Sequence[str] = _WORKER
    ) -> None:
        self._timeout_s = timeout_s
        self._words_per_minute = words_per_minute
        self._argv = worker
        self._helper: _Helper | None = None
        self._turn = asyncio.Lock()
        self._edition = f"{_edition()} {words_per_minute}"

    @property
    def pid(self) -> int | None:
        """The helper's, while there is one."""
        return self._helper.transport.get_pid() if self._helper and self._helper.usable else None

    def fingerprint(self, text: str, gender: Gender) -> str:
        return f"espeak {self._edition} {gender} {text}"

    async def say(self, text: str, gender: Gender) -> bytes:
        request = {"text": text, "gender": gender, "words_per_minute": self._words_per_minute}
        async with self._turn:
            answer = b""
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await (await self._ready()).ask(json.dumps(request).encode())
            except TimeoutError:
                raise VoiceFailed(f"voice espeak: no answer within {self._timeout_s:g} s") from None
            except OSError as error:
                raise VoiceFailed(f"voice espeak: the helper process does not start: {error}") from error
            finally:
                if not answer.startswith((_SOUND, _REFUSAL)):
                    await self._end()  # whatever it says next is not to be trusted
        if answer.startswith(_REFUSAL):
            raise VoiceFailed(f"voice espeak: {answer[1:].decode('utf-8', 'replace')}")
        if not answer.startswith(_SOUND):
            raise VoiceFailed("voice espeak: the helper process answered nonsense")
        return answer[1:]

    async def close(self) -> None:
        async with self._turn:
            await self._end()

    async def _ready(self) -> _Helper:
        if self._helper is not None and not self._helper.usable:
            await self._end()
        if self._helper is None:
            # from the folder that holds the package: -m then finds it however huibo itself was started
            self._helper = await _Helper().start(self._argv, cwd=_ROOT)
        return self._helper

    async def _end(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None:
            await helper.end()


class _Helper(Program):
    """One helper process. What it says belongs to the request under way; with none, it has gone mad."""

    def __init__(self) -> None:
        super().__init__()
        self.usable = True
        self._said = bytearray()
        self._answer: asyncio.Future[bytes] | None = None

    async def ask(self, request: bytes) -> bytes:
        """The answer; empty when it is none. Raises `VoiceFailed` when the process ends instead."""
        self._said.clear()
        self._answer = asyncio.get_running_loop().create_future()
        self.feed(struct.pack("!I", len(request)) + request)
        return await self._answer

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self._lose()
            self.transport.close()
            return
        self._said += data
        if len(self._said) < 4:
            return
        (length,) = struct.unpack("!I", self._said[:4])
        if not 0 < length <= _MAX_BYTES or len(self._said) > 4 + length:
            self._answer.set_result(b"")
        elif len(self._said) == 4 + length:
            self._answer.set_result(bytes(self._said[4:]))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._lose()

    def process_exited(self) -> None:
        super().process_exited()
        self._lose()

    def _lose(self) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(VoiceFailed("voice espeak: the helper process ended"))


def _edition() -> str:
    """Changes with whatever decides how a text sounds: the packages, and how we read."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    for package in ("espeakng-loader", "pypinyin"):
        try:
            digest.update(version(package).encode())
        except PackageNotFoundError:
            digest.update(b"none")
    return digest.hexdigest()[:16]
