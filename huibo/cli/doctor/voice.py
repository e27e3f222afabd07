"""Doctor: whether the voice that speaks prompts makes a sound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np

from huibo.config import PromptSettings
from huibo.findings import Finding, fail, ok
from huibo.prompts.choose import say_once
from huibo.prompts.voice import Gender, VoiceFailed

_TOPIC = "voice"
_HEADER, _RATE = 44, 8000  # of a telephone WAV: bytes, samples a second
_TEXT = "接听请按1"
_SHORT_S, _QUIET = 0.3, 300  # a loud sample of 16 bits is some ten thousand


def examine(settings: PromptSettings) -> Iterator[Finding]:
    hint = "see docs/voices.md; `huibo say` lets you try"
    try:
        sound = asyncio.run(say_once(settings, _TEXT, Gender.FEMALE))
    except VoiceFailed as error:
        yield fail(_TOPIC, str(error), hint)
        return
    samples = np.frombuffer(sound[_HEADER:], dtype="<i2")
    seconds = len(samples) / _RATE
    if seconds < _SHORT_S or np.abs(samples.astype(int)).max() < _QUIET:
        yield fail(_TOPIC, f"{settings.voice} says nothing that can be heard", hint)
        return
    yield ok(_TOPIC, f"{settings.voice} speaks: {seconds:.1f} s")
