"""Puts the voice and the library together that the settings ask for. The one place that knows every voice."""

from __future__ import annotations

import asyncio
from pathlib import Path

from huibo.config import PromptSettings
from huibo.prompts.audio import BadAudio, telephone
from huibo.prompts.command import CommandVoice
from huibo.prompts.espeak import EspeakVoice
from huibo.prompts.files import RecordedPrompts
from huibo.prompts.http import HttpVoice
from huibo.prompts.library import PromptLibrary
from huibo.prompts.voice import Gender, Voice, VoiceFailed

_MB = 1_000_000


def voice_of(settings: PromptSettings) -> Voice:
    """The configured voice, behind the recorded prompts when there are any."""
    voice = _speaking(settings)
    if settings.recordings:
        return RecordedPrompts(Path(settings.recordings), voice, settings.max_audio_mb * _MB)
    return voice


def library_of(settings: PromptSettings) -> PromptLibrary:
    """Raises `ValueError` for a folder that cannot be used."""
    return PromptLibrary(
        settings.folder,
        voice_of(settings),
        max_text_chars=settings.max_text_chars,
        concurrency=settings.concurrency,
        keep_bytes=settings.keep_mb * _MB,
        keep_s=settings.keep_days * 86400,
    )


async def say_once(settings: PromptSettings, text: str, gender: Gender) -> bytes:
    """A telephone WAV of a text, past the cache. Raises `VoiceFailed`."""
    voice = voice_of(settings)
    try:
        return await asyncio.to_thread(telephone, await voice.say(text, gender))
    except BadAudio as error:
        raise VoiceFailed(f"voice {voice.name}: {error}") from error
    finally:
        await voice.close()


def _speaking(settings: PromptSettings) -> Voice:
    match settings.voice:
        case "espeak":
            return EspeakVoice(timeout_s=settings.timeout_s, words_per_minute=settings.words_per_minute)
        case "command":
            return CommandVoice(
                settings.command,
                timeout_s=settings.timeout_s,
                max_bytes=settings.max_audio_mb * _MB,
                spell_out=settings.spell_out,
            )
        case "http":
            return HttpVoice(
                settings.http,
                timeout_s=settings.timeout_s,
                max_bytes=settings.max_audio_mb * _MB,
                spell_out=settings.spell_out,
            )
