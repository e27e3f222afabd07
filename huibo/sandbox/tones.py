"""The tones of the sandbox's phones: which number has which, and how much of one is in a recording.

Pure analysis with numpy. Never guesses who spoke when two numbers share a tone: that is `SameTone`.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]  # from -1 to 1, RATE of them a second

RATE = 8000
RINGBACK_HZ = 450  # the ringing tone of China, 1 s on and 4 s off: one number in 241 has it too

# Tones are multiples of 10 Hz: in a window of 100 ms each fills one bin of the spectrum and no other.
_WINDOW = RATE // 10
_HOP = RATE // 50
_LONG = RATE // 2  # window of `dominant`: 2 Hz apart

_FAINTEST_DB = -50.0
_PRESENT_SHARE = 0.4  # of a window's energy; a half would be the exact edges of a tone beside silence
_BRIDGED_S = 0.12  # a lost or late packet turns the phase and hides the tone for a window
_SHORTEST_S = 0.4  # the parts of the information tone last 0.33 s
_SHORTEST_RINGBACK_S = 1.3


class SameTone(ValueError):
    """Two numbers of one call have the same tone: nothing heard can prove who was heard."""


@dataclass(frozen=True, slots=True)
class Loudest:
    """The strongest frequency of half a second that begins at `at_s`; `hz` is None in silence."""

    at_s: float
    hz: float | None
    level_db: float


@dataclass(frozen=True, slots=True)
class Heard:
    """How much of a tone a recording holds. Levels are dB relative to the loudest sine that fits (dBFS)."""

    seconds: float  # in which the tone is there
    level_db: float  # median over these seconds; -inf without any
    share: float  # of the recording's whole energy, 0 to 1
    begins_s: float | None  # from the beginning of the recording

    def __bool__(self) -> bool:
        return self.seconds > 0


def tone_of(number: str) -> int:
    """The tone of a number's phone in Hz, 400 to 2800 in steps of 10. `number`: national digits."""
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"not the digits of a number: {number!r}")
    return 400 + 10 * (int(number) % 241)


def hear_each_other(a: str, heard_by_a: Path, b: str, heard_by_b: Path) -> tuple[Heard, Heard]:
    """What `a` heard of `b`, and `b` of `a`: national digits and the phones' recordings. Raises SameTone."""
    if tone_of(a) == tone_of(b):
        raise SameTone(
            f"{a} and {b} both have the tone of {tone_of(a)} Hz, so their recordings prove nothing: "
            "take two numbers that differ modulo 241"
        )
    return hears(heard_by_a, tone_of(b)), hears(heard_by_b, tone_of(a))


def hears(recording: Path | Samples, tone: int) -> Heard:
    """How much of `tone` (a multiple of 10 Hz) is in a recording.

    Bursts too short to be a phone's own tone do not count: the information tone, and for 450 Hz the
    ringing tone. Whether another party of the call has the same tone is for the caller to know
    (`hear_each_other`). Raises ValueError for a recording that is not 8 kHz mono or not closed yet.
    """
    if tone % 10 or not 0 < tone < RATE // 2:
        raise ValueError(f"{tone} Hz is no tone of a phone")
    samples = load(recording) if isinstance(recording, Path) else recording
    power, total = _powers(samples, tone)
    present = (power >= _power(_FAINTEST_DB)) & (power >= _PRESENT_SHARE * total)
    shortest = _SHORTEST_RINGBACK_S if tone == RINGBACK_HZ else _SHORTEST_S
    runs = [(begin, end) for begin, end in _runs(present) if (end - begin) * _HOP >= shortest * RATE]
    if not runs:
        return Heard(0.0, float("-inf"), 0.0, None)
    of_runs = np.concatenate([power[begin:end] for begin, end in runs])
    lasts, level = len(of_runs) * _HOP, float(np.median(of_runs))
    return Heard(
        seconds=round(lasts / RATE, 2),
        level_db=round(_decibels(level), 1),
        share=round(min(1.0, level * lasts / float((samples**2).sum())), 3),
        begins_s=round(runs[0][0] * _HOP / RATE, 2),
    )


def dominant(recording: Path | Samples) -> list[Loudest]:
    """The strongest frequency of each half second, to 2 Hz; a last piece that is shorter is left out."""
    samples = load(recording) if isinstance(recording, Path) else recording
    found = []
    for start in range(0, len(samples) - _LONG + 1, _LONG):
        bins = np.abs(np.fft.rfft(samples[start : start + _LONG] * np.hanning(_LONG))) ** 2
        peak = int(bins.argmax())
        # Under a Hann window a sine's energy lies in the peak and its neighbours; 3/8 is the window's own.
        power = 2 * float(bins[max(0, peak - 2) : peak + 3].sum()) / _LONG**2 / 0.375
        loud = power >= _power(_FAINTEST_DB)
        found.append(Loudest(start / RATE, peak * RATE / _LONG if loud else None, round(_decibels(power), 1)))
    return found


def load(recording: Path) -> Samples:
    """The samples of a WAV file (16 bit, 8 kHz, mono). An empty file holds none."""
    size = recording.stat().st_size
    if not size:
        return np.zeros(0)
    with wave.open(str(recording), "rb") as file:
        form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
        frames = file.readframes(file.getnframes())
    if form != (RATE, 1, 2):
        raise ValueError(f"{recording} is not 8 kHz mono 16 bit: {form}")
    if not frames and size > 44:
        raise ValueError(f"{recording} is still being written")
    return np.frombuffer(frames, "<i2") / 32768.0


def _powers(samples: Samples, tone: int) -> tuple[Samples, Samples]:
    """Mean square of the tone and of everything, for each 20 ms, taken over the 100 ms around them."""
    hops = len(samples) // _HOP
    if hops < _WINDOW // _HOP:
        return np.zeros(0), np.zeros(0)
    blocks = samples[: hops * _HOP].reshape(hops, _HOP)
    turn = np.resize(np.exp(-2j * np.pi * tone * np.arange(_WINDOW) / RATE), blocks.shape)
    window = np.ones(_WINDOW // _HOP)
    of_tone = np.convolve((blocks * turn).sum(axis=1), window, "same") / _WINDOW
    of_all = np.convolve((blocks**2).sum(axis=1), window, "same") / _WINDOW
    return 2 * np.abs(of_tone) ** 2, of_all


def _runs(present: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The hops [begin, end) in which the tone is there, over gaps of a late packet."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], present.astype(np.int8), [0])))).tolist()
    if not edges:
        return []
    kept = [edges[0]]
    for end, begin in zip(edges[1:-1:2], edges[2:-1:2], strict=True):
        if (begin - end) * _HOP > _BRIDGED_S * RATE:
            kept += [end, begin]
    kept.append(edges[-1])
    return list(zip(kept[::2], kept[1::2], strict=True))


def _power(level_db: float) -> float:
    return float(0.5 * 10 ** (level_db / 10))


def _decibels(power: float) -> float:
    return float(10 * np.log10(2 * power)) if power > 0 else float("-inf")
