"""The helper process that speaks with espeak-ng: `python -m huibo.prompts.espeak_worker`.

Reads requests from standard input and answers each on standard output. A frame is four bytes of length (big
endian), then the request as JSON, or one byte (0: a WAV file follows, 1: why there is none) and the rest.
Ends with its input, and with its parent.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import signal
import struct
import sys
import wave
from contextlib import suppress
from typing import Any, BinaryIO

from huibo.prompts.text import Language, Segment, segments
from huibo.prompts.voice import Gender

_PR_SET_PDEATHSIG = 1
_VARIANTS = {Gender.FEMALE: "+f3", Gender.MALE: "+m3"}
_VOICES = {Language.ZH: "cmn-latn-pinyin", Language.EN: "en-us"}
_VOLUMES = {Language.ZH: 100, Language.EN: 135}  # as loud as each other
_PAUSE_S = {"，": 0.18, ",": 0.18, "。": 0.32, ".": 0.32, "？": 0.32, "?": 0.32}  # between two languages


class Speaker:
    """Turns texts into WAV files. Raises `ImportError` when espeak-ng or pypinyin is not installed."""

    def __init__(self) -> None:
        from huibo.prompts.espeak_library import Library
        from huibo.prompts.pinyin import pinyin

        self._library = Library()
        self._pinyin = pinyin

    def say(self, text: str, gender: Gender, words_per_minute: int) -> bytes:
        """A WAV file; ValueError when there is nothing to say."""
        samples = bytearray()
        for segment in segments(text):
            samples += self._segment(segment, gender, words_per_minute)
        if not samples:
            raise ValueError("nothing in the text can be spoken")
        return _wav(samples, self._library.rate)

    def _segment(self, segment: Segment, gender: Gender, words_per_minute: int) -> bytes:
        chinese = segment.language is Language.ZH
        words = self._pinyin(segment.text) if chinese else segment.text
        if not words:
            return b""
        voice = _VOICES[segment.language] + _VARIANTS[gender]
        volume = _VOLUMES[segment.language]
        said = self._library.say(words, voice, words_per_minute, volume)
        return said + bytes(2 * int(_PAUSE_S.get(segment.text[-1], 0) * self._library.rate))


def _wav(samples: bytes | bytearray, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples)
    return file.getvalue()


def _answer(speaker: Speaker, request: dict[str, Any]) -> bytes:
    try:
        return b"\0" + speaker.say(request["text"], Gender(request["gender"]), request["words_per_minute"])
    except Exception as error:  # whatever is wrong with one text, the next one is spoken
        return b"\1" + (str(error) or type(error).__name__).encode("utf-8", "replace")


def _frame(incoming: BinaryIO) -> bytes | None:
    head = incoming.read(4)
    if len(head) < 4:
        return None
    (length,) = struct.unpack("!I", head)
    return incoming.read(length)


def main() -> None:
    with suppress(AttributeError):  # Linux alone; elsewhere the end of the input has to do
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the frames
    try:
        speaker = Speaker()
        refusal = b""
    except Exception as error:
        refusal = b"\1" + f"espeak-ng cannot be used: {error}".encode()
    while (request := _frame(sys.stdin.buffer)) is not None:
        answer = refusal or _answer(speaker, json.loads(request))
        outgoing.write(struct.pack("!I", len(answer)) + answer)
        outgoing.flush()


if __name__ == "__main__":
    main()
