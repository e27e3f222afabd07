"""What a voice is: text in, audio out. Adapters implement it; nothing here knows any of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Protocol


class Gender(IntEnum):
    """Whose voice is to be heard; the numbers are those that requests carry (docs/wire.md)."""

    FEMALE = 1
    MALE = 2


class VoiceFailed(Exception):
    """There is no audio for this text. The message is one line: which voice, and why."""


class Voice(Protocol):
    """Something that speaks. May be asked for several texts at once; one text's failure concerns no other."""

    @property
    def name(self) -> str:
        """For people, in messages and logs."""

    def fingerprint(self, text: str, gender: Gender) -> str:
        """Names the sound that `say` would give: equal fingerprints, equal sound. Holds no secret."""

    async def say(self, text: str, gender: Gender) -> bytes:
        """A sound file that libsndfile reads, of any rate, mono or not. Raises `VoiceFailed`."""

    async def close(self) -> None:
        """End what the voice keeps running. It may be asked again: then it starts anew."""


def filled(template: str, words: Mapping[str, str]) -> str:
    """The template with each `$name` of `words` replaced, once; any other `$` stays as it is."""
    return re.sub(r"\$([a-z]+)", lambda found: words.get(found[1], found[0]), template)
