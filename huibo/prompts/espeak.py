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
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from huibo.prompts.voice import Gender, VoiceFailed

_ROOT = Path(__file__).parents[2]
_WORKER = (sys.executable, "-m", "huibo.prompts.espeak_worker")
_MAX_BYTES = 64 * 1024 * 1024
_END_S = 2.0
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
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._edition = f"{_edition()} {words_per_minute}"

    @property
    def pid(self) -> int | None:
        """The helper's, while there is one."""
        return self._process.pid if self._process else None

    def fingerprint(self, text: str, gender: Gender) -> str:
        return f"espeak {self._edition} {gender} {text}"

    async def say(self, text: str, gender: Gender) -> bytes:
        request = json.dumps(
            {"text": text, "gender": gender, "words_per_minute": self._words_per_minute}
        ).encode()
        async with self._turn:
            answer = b""
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._ask(request)
            except TimeoutError:
                raise VoiceFailed(f"voice espeak: no answer within {self._timeout_s:g} s") from None
            except (OSError, EOFError) as error:
                raise VoiceFailed(f"voice espeak: the helper process ended ({_why(error)})") from error
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
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()
                try:
                    async with asyncio.timeout(_END_S):
                        await self._process.wait()
                except TimeoutError:
                    pass
            await self._end()

    async def _ask(self, request: bytes) -> bytes:
        if self._process is None or self._process.returncode is not None:
            # from the folder that holds the package: -m then finds it however huibo itself was started
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, stdin=PIPE, stdout=PIPE, cwd=_ROOT
            )
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        to.write(struct.pack("!I", len(request)) + request)
        await to.drain()
        (length,) = struct.unpack("!I", await back.readexactly(4))
        if not 0 < length <= _MAX_BYTES:
            return b""
        return await back.readexactly(length)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()


def _why(error: Exception) -> str:
    return "in the middle of the text" if isinstance(error, EOFError) else str(error)


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
