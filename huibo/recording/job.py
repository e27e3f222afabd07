"""What is said between the server and the helper processes that finish recordings. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be finished: the two raw files, into a third.

    `talk_ms`: how long the conversation was, which is the end of the raw files. `format`: mp3, opus or wav.
    `last`: nothing better will come, neither is what the engine never closed: what is there is taken.
    """

    said: Path
    heard: Path
    into: Path
    talk_ms: int
    format: str
    last: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A finished file. `silent`: of whom nothing is to be heard. `lacks`: what is missing of the talk."""

    bytes: int
    sha256: str
    duration_ms: int
    silent: tuple[str, ...] = ()
    lacks: str | None = None


class Unfinished(Exception):
    """No file was made. `reason` is for the operator.

    `blameless`: not the recording is at fault but the place it lies in or goes to, so trying on makes sense.
    """

    def __init__(self, reason: str, blameless: bool = False) -> None:
        super().__init__(reason, blameless)
        self.reason = reason
        self.blameless = blameless


def not_written(error: OSError) -> Unfinished:
    """What to tell of a recording that could not be written."""
    full = error.errno in (ENOSPC, EDQUOT)
    return Unfinished("disk full" if full else f"not written: {error.strerror or error}", blameless=True)
