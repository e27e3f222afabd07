"""The cache of finished prompts: a text becomes a WAV file that Asterisk plays, made once and kept.

Owns its files in the folder: each is whole (written beside its place and renamed) and named for what it says.
Knows no voice; decides nothing about calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from huibo.prompts.audio import RATE, BadAudio, seconds_of, telephone
from huibo.prompts.voice import Gender, Voice, VoiceFailed

log = structlog.get_logger()

_FORM = f"1 {RATE}"  # to be changed when finished files come to look different
_UNFINISHED = ".part"
_OURS = re.compile(
    r"[0-9a-f]{40}\.wav|prompt-\w+\.part"
)  # what else lies in the folder is not ours to delete
_IN_USE_S = 3600  # a file that was used so lately may be playing
_PURGE_EVERY = 500  # files made: texts with names and numbers in them never come again


class TextRefused(VoiceFailed):
    """The text itself is at fault: empty, or longer than allowed."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A finished prompt: an absolute path ending in .wav, 8 kHz mono 16-bit PCM."""

    path: Path
    seconds: float


class PromptLibrary:
    """Prepares prompts in a folder. `start` before use, `close` afterwards."""

    def __init__(
        self,
        folder: Path,
        voice: Voice,
        *,
        max_text_chars: int = 500,
        concurrency: int = 4,
        keep_bytes: int = 1 << 30,
        keep_s: float = 30 * 86400,
    ) -> None:
        """Raises `ValueError` for a folder whose name Asterisk would take apart."""
        self._folder = folder.absolute()
        if re.search(r"[,&|\n]", str(self._folder)):
            raise ValueError(f"prompts.folder: no comma, & or | is allowed in it: {self._folder}")
        self._voice = voice
        self._max_text_chars = max_text_chars
        self._room = asyncio.Semaphore(concurrency)
        self._keep_bytes = keep_bytes
        self._keep_s = keep_s
        self._making: dict[Path, asyncio.Task[float]] = {}
        self._made = 0

    async def start(self) -> None:
        """Make the folder and purge it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self.purge)

    async def close(self) -> None:
        for task in list(self._making.values()):
            task.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        await self._voice.close()

    async def prepare(self, text: str, gender: Gender) -> Prompt:
        """The prompt of a text, from the folder or made now. Raises `VoiceFailed` (`TextRefused`)."""
        if not text.strip():
            raise TextRefused("the prompt is empty")
        if len(text) > self._max_text_chars:
            raise TextRefused(
                f"the prompt has {len(text)} characters, at most {self._max_text_chars} are allowed"
            )
        path = self._path(text, gender)
        task = self._making.get(path)
        if task is None:
            if (seconds := _cached(path)) is not None:
                return Prompt(path, seconds)
            task = self._making[path] = asyncio.create_task(self._make(path, text, gender))
            task.add_done_callback(lambda done: self._over(path, done))
        # whoever asked first may go away; the others still wait for the same prompt
        return Prompt(path, await asyncio.shield(task))

    def purge(self) -> None:
        """Delete what is too old, then the longest unused until the rest fits; never what may be in use."""
        now = time.time()
        kept: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir():
            with suppress(OSError):
                if not _OURS.fullmatch(path.name):
                    continue
                status = path.stat()
                age_s = now - status.st_mtime
                if age_s > _IN_USE_S and (path.suffix == _UNFINISHED or age_s > self._keep_s):
                    path.unlink()
                else:
                    kept.append((status.st_mtime, status.st_size, path))
        surplus = sum(size for _, size, _ in kept) - self._keep_bytes
        for used_at, size, path in sorted(kept):
            if surplus <= 0 or now - used_at <= _IN_USE_S:
                break
            with suppress(OSError):
                path.unlink()
                surplus -= size

    def _path(self, text: str, gender: Gender) -> Path:
        named = f"{_FORM} {self._voice.fingerprint(text, gender)}"
        return self._folder / (
            hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:40] + ".wav"
        )

    async def _make(self, path: Path, text: str, gender: Gender) -> float:
        async with self._room:
            began = time.monotonic()
            sound = await self._voice.say(text, gender)
            try:
                seconds = await asyncio.to_thread(_store, path, sound)
            except BadAudio as error:
                raise VoiceFailed(f"voice {self._voice.name}: {error}") from error
            except OSError as error:
                raise VoiceFailed(f"prompt folder: {error.strerror}") from error
        log.info("prompt made", chars=len(text), seconds=round(seconds, 2), ms=_ms_since(began))
        self._made += 1
        if self._made % _PURGE_EVERY == 0:
            await asyncio.to_thread(self.purge)
        return seconds

    def _over(self, path: Path, task: asyncio.Task[float]) -> None:
        self._making.pop(path, None)
        if not task.cancelled():
            task.exception()  # seen, even when nobody waits for it any more


def _cached(path: Path) -> float | None:
    """Seconds of a finished file, which counts as used now; None when there is none, or it is damaged."""
    try:
        seconds = seconds_of(path.read_bytes())
        if seconds is not None:
            os.utime(path)
    except OSError:
        return None
    if seconds is None:
        log.warning("damaged prompt, made anew", file=path.name)
    return seconds


def _store(path: Path, sound: bytes) -> float:
    """Convert and put in place at one stroke; readable for Asterisk, whoever it runs as."""
    data = telephone(sound)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix="prompt-", suffix=_UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)
            file.write(data)
            file.flush()
            os.fsync(handle)  # else a power cut leaves a whole name with nothing behind it
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    return (len(data) - 44) / (2 * RATE)


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
