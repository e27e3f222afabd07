"""Where the engine writes what it records: two mono WAV files per call, by the call's id.

Names and removal only; the files are the engine's while the call lives and the finisher's afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SAID, _HEARD = "-said.wav", "-heard.wav"


@dataclass(frozen=True, slots=True)
class RawRecordings:
    """The folder of the raw files. It must be writable by the engine."""

    folder: Path

    def said(self, call_id: str) -> Path:
        """What the caller said: 8 kHz, mono, 16 bit."""
        return self.folder / f"{call_id}{_SAID}"

    def heard(self, call_id: str) -> Path:
        """What the caller heard, that is the callee: of the same form and length."""
        return self.folder / f"{call_id}{_HEARD}"

    def remove(self, call_id: str) -> None:
        """Delete both files of a call, as far as they are there."""
        for path in (self.said(call_id), self.heard(call_id)):
            path.unlink(missing_ok=True)

    def last_changed(self) -> Iterator[tuple[str, float]]:
        """The calls that have raw files, and when the younger of the two was written to: UNIX seconds."""
        changed: dict[str, float] = {}
        for ending in (_SAID, _HEARD):
            for path in self.folder.glob(f"*{ending}"):
                call_id = path.name.removesuffix(ending)
                try:
                    changed[call_id] = max(changed.get(call_id, 0), path.stat().st_mtime)
                except FileNotFoundError:  # finished meanwhile
                    continue
        yield from changed.items()
