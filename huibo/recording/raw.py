"""Where the engine writes what it records: two mono WAV files per call, by the call's id.

Names only; the files are the engine's while the call lives and the finisher's afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RawRecordings:
    """The folder of the raw files. It must be writable by the engine."""

    folder: Path

    def said(self, call_id: str) -> Path:
        """What the caller said: 8 kHz, mono, 16 bit."""
        return self.folder / f"{call_id}-said.wav"

    def heard(self, call_id: str) -> Path:
        """What the caller heard, that is the callee: of the same form and length."""
        return self.folder / f"{call_id}-heard.wav"
