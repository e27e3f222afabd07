"""Recorded prompts: texts or names that a folder's `prompts.toml` lists are played from its files.

Everything else is for the voice behind. The list is read anew when it changes. Nothing outside the folder is
played.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from huibo.prompts.voice import Gender, Voice, VoiceFailed

log = structlog.get_logger()

LIST = "prompts.toml"
_NAME = re.compile(r"@[\w.-]+")


class _Entry(BaseModel):
    """One recorded prompt: found by `@name` or by its exact text."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    text: str = ""
    file: str
    male: str = ""  # the same in a man's voice

    def file_for(self, gender: Gender) -> str:
        return self.male if self.male and gender is Gender.MALE else self.file


class _List(BaseModel):
    model_config = ConfigDict(extra="forbid")

    prompt: list[_Entry] = []


@dataclass(frozen=True, slots=True)
class _Known:
    stamp: tuple[int, int]
    entries: dict[str, _Entry]


class RecordedPrompts:
    """`huibo.prompts.voice.Voice` that plays what is recorded and asks `fallback` for the rest."""

    name = "recordings"

    def __init__(self, folder: Path, fallback: Voice, max_bytes: int) -> None:
        self._folder = folder.resolve()
        self._fallback = fallback
        self._max_bytes = max_bytes
        self._known: _Known | None = None

    def fingerprint(self, text: str, gender: Gender) -> str:
        try:
            file = self._file(text, gender)
            if file is not None:
                status = file.stat()
                return f"recording {file} {status.st_mtime_ns} {status.st_size}"
        except (OSError, VoiceFailed):
            return f"recording {text}"  # `say` will tell what is wrong
        return self._fallback.fingerprint(text, gender)

    async def say(self, text: str, gender: Gender) -> bytes:
        file = self._file(text, gender)
        if file is None:
            return await self._fallback.say(text, gender)
        try:
            if file.stat().st_size > self._max_bytes:
                raise VoiceFailed(f"voice recordings: {file.name} is larger than {self._max_bytes} bytes")
            return file.read_bytes()
        except OSError as error:
            raise VoiceFailed(f"voice recordings: {file.name}: {error.strerror}") from error

    async def close(self) -> None:
        await self._fallback.close()

    def _file(self, text: str, gender: Gender) -> Path | None:
        """The recording of a text; None when there is none. A name that is not listed is never read out."""
        wanted = text.strip()
        entry = self._entries().get(wanted)
        if entry is None:
            if _NAME.fullmatch(wanted):
                raise VoiceFailed(f"voice recordings: {LIST} has no prompt {wanted}")
            return None
        file = (self._folder / entry.file_for(gender)).resolve()
        if not file.is_relative_to(self._folder):
            raise VoiceFailed(f"voice recordings: {entry.file_for(gender)} is not in the folder")
        return file

    def _entries(self) -> dict[str, _Entry]:
        """What is listed now; while the list is damaged, what was listed before."""
        path = self._folder / LIST
        stamp = (0, 0)
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if self._known is None or self._known.stamp != stamp:
                self._known = _Known(stamp, _index(path.read_text("utf-8")))
        except (OSError, ValueError) as error:
            if self._known is None:
                raise VoiceFailed(f"voice recordings: {LIST}: {_why(error)}") from error
            if self._known.stamp != stamp:
                log.warning("list of recorded prompts not read, the old one stays", reason=_why(error))
                self._known = _Known(stamp, self._known.entries)
        return self._known.entries


def _why(error: OSError | ValueError) -> str:
    match error:
        case ValidationError():
            first = error.errors()[0]
            return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        case OSError():
            return error.strerror or type(error).__name__
        case _:  # not TOML, not UTF-8
            return str(error)


def _index(text: str) -> dict[str, _Entry]:
    found: dict[str, _Entry] = {}
    for entry in _List.model_validate(tomllib.loads(text)).prompt:
        found |= {key: entry for key in (entry.name and f"@{entry.name}", entry.text.strip()) if key}
    return found
