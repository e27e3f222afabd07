"""The samples of any sound file, for a telephone: one channel at 8 kHz, level set, silence trimmed.

Pure computing. Audio that is empty, silent or no audio at all is refused, never passed on.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from huibo.prompts.audio import RATE, BadAudio

_PEAK = 10 ** (-3 / 20)  # of full scale
_SILENT = 10 ** (-50 / 20)  # a file that is never louder holds no speech
_QUIET = 10 ** (-40 / 20)  # below the loudest moment: counts as silence at the ends
_WINDOW = RATE // 100
_EDGE = RATE // 10  # silence kept, or made, at each end
_MAX_S, _RATES, _MAX_CHANNELS = 600, (4000, 192_000), 8  # a header may claim anything

Samples = NDArray[np.float32]


def speech(data: bytes) -> bytes:
    """Of what libsndfile reads: 16 bits a sample, the low byte first, at `RATE`. Raises `BadAudio`."""
    samples, rate = _decoded(data)
    if rate != RATE:
        samples = soxr.resample(samples, rate, RATE)
    peak = float(np.abs(samples).max(initial=0))
    if not np.isfinite(peak):
        raise BadAudio("the audio holds values that are no numbers")
    if peak < _SILENT:
        raise BadAudio("the audio is empty" if not samples.size else "the audio is silent")
    samples = _trimmed(samples * np.float32(_PEAK / peak))
    return np.round(samples * 32767).astype("<i2").tobytes()


def _decoded(data: bytes) -> tuple[Samples, int]:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate = int(file.samplerate)
            if not (_RATES[0] <= rate <= _RATES[1] and file.channels <= _MAX_CHANNELS):
                raise BadAudio(f"audio of {rate} Hz and {file.channels} channels is not taken")
            samples = file.read(_MAX_S * rate + 1, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError) as error:
        raise BadAudio("this is not audio") from error
    if len(samples) > _MAX_S * rate:
        raise BadAudio(f"the audio is longer than {_MAX_S} s")
    return samples.mean(axis=1, dtype=np.float32), rate


def _trimmed(samples: Samples) -> Samples:
    """From 100 ms before the first sound to 100 ms after the last."""
    windows = -(-len(samples) // _WINDOW)
    padded = np.pad(np.abs(samples), (0, windows * _WINDOW - len(samples)))
    loud = np.flatnonzero(padded.reshape(windows, _WINDOW).max(axis=1) > _PEAK * _QUIET)
    start, end = int(loud[0]) * _WINDOW, (int(loud[-1]) + 1) * _WINDOW
    padded = np.pad(samples, (_EDGE, _EDGE + _WINDOW))
    trimmed: Samples = padded[start : end + 2 * _EDGE]
    return trimmed
