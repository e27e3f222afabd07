"""The prompts of a call: a menu's texts made ready to be played, and the warning tone.

Owns the way from a menu to files; what a voice is and how prompts are kept is the library's.
"""

from __future__ import annotations

import asyncio
import math
import struct
from pathlib import Path

from huibo.errors import PromptError
from huibo.model import Menu, Prompts
from huibo.prompts.audio import RATE, wav
from huibo.prompts.library import Prompt, PromptLibrary
from huibo.prompts.voice import Gender, VoiceFailed

_TONE_HZ, _TONE_S, _FADE_S, _LEVEL = 950, 0.35, 0.02, 0.25  # short, and unlike any tone of the network


class MenuPrompts:
    """`huibo.ports.PromptMaker` on a library."""

    def __init__(self, library: PromptLibrary) -> None:
        self._library = library

    async def prepare(self, menu: Menu) -> Prompts:
        """Both texts at once. Raises `PromptError`."""
        gender = Gender.MALE if menu.male else Gender.FEMALE
        try:
            notice, prompt = await asyncio.gather(
                *(self._prompt(text, gender) for text in (menu.notice, menu.prompt))
            )
        except VoiceFailed as error:
            raise PromptError(str(error)) from error
        return Prompts(
            notice=str(notice.path) if notice else None,
            prompt=str(prompt.path) if prompt else None,
            notice_s=notice.seconds if notice else 0.0,
            prompt_s=prompt.seconds if prompt else 0.0,
        )

    async def _prompt(self, text: str, gender: Gender) -> Prompt | None:
        return await self._library.prepare(text, gender) if text else None


def write_warning_tone(path: Path) -> None:
    """The tone that tells a party that the talk time is nearly over: 8 kHz mono 16-bit WAV."""
    count, fade = round(RATE * _TONE_S), RATE * _FADE_S  # faded in and out, so that it does not click
    peak, turn = 32767 * _LEVEL, math.tau * _TONE_HZ / RATE
    samples = [
        round(peak * min(1, at / fade, (count - at) / fade) * math.sin(turn * at)) for at in range(count)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav(struct.pack(f"<{count}h", *samples)))
