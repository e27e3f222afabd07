"""Sound files as the telephone network carries them: 8 kHz, mono, 16-bit WAV; whatever else is made one.

Pure computing. What a sound is read, filtered and levelled with is loaded for the first of them.
"""

from __future__ import annotations

import io
import wave

RATE = 8000


class BadAudio(Exception):
    """No prompt can be made of this. The message is one line."""


def telephone(data: bytes) -> bytes:
    """A sound file (what libsndfile reads: WAV, FLAC, OGG, MP3 …) as a telephone WAV. Raises `BadAudio`."""
    from huibo.prompts.samples import speech  # and numpy with it: no start is to wait for that

    return wav(speech(data))


def wav(samples: bytes) -> bytes:
    """A WAV file of `RATE`. `samples`: 16 bits each, the low byte first."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples)
    return file.getvalue()


def seconds_of(data: bytes) -> float | None:
    """How long a telephone WAV of ours plays; None for anything else: cut short, silent, of another form."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            frames = file.getnframes()
            raw = file.readframes(frames)
    except (wave.Error, EOFError):
        return None
    if form != (1, 2, RATE) or not frames or len(raw) != frames * 2 or not any(raw):
        return None
    return float(frames / RATE)
