"""What an examination of the installation finds: a line each, and what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"  # works, but somebody should look at it
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """`topic`: what was looked at. `text`: how it is. `hint`: what to do, "" where there is nothing."""

    level: Level
    topic: str
    text: str
    hint: str = ""


def ok(topic: str, text: str) -> Finding:
    return Finding(Level.OK, topic, text)


def warn(topic: str, text: str, hint: str = "") -> Finding:
    return Finding(Level.WARN, topic, text, hint)


def fail(topic: str, text: str, hint: str = "") -> Finding:
    return Finding(Level.FAIL, topic, text, hint)
