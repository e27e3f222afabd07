"""Any sound file becomes a telephone WAV, or is refused: form, level, silence, and what is no audio."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from huibo.prompts.audio import RATE, BadAudio, seconds_of, telephone, wav

Signal = NDArray[np.float64]


def tone(seconds: float, rate: int, hz: float = 440, level: float = 0.5) -> Signal:
    return level * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)


def encoded(signal: Signal, rate: int, form: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, signal, rate, format=form, subtype=subtype)
    return file.getvalue()


def heard(data: bytes) -> Signal:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def loudest_hz(signal: Signal) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(signal * np.hanning(len(signal))))) * RATE / len(signal))


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 44100, 48000, 96000])
def test_any_rate(rate: int) -> None:
    signal = heard(telephone(encoded(tone(1, rate), rate)))
    assert len(signal) / RATE == pytest.approx(1.2, abs=0.03)
    assert loudest_hz(signal) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_U8"),
        ("WAV", "FLOAT"),
        ("WAV", "ALAW"),
        ("WAV", "ULAW"),
        ("FLAC", None),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", None),
        ("AIFF", None),
    ],
)
def test_any_form(form: str, subtype: str | None) -> None:
    signal = heard(telephone(encoded(tone(1, 24000), 24000, form, subtype)))
    assert 1.1 < len(signal) / RATE < 1.35
    assert loudest_hz(signal) == pytest.approx(440, abs=3)


def test_channels_become_one() -> None:
    stereo = np.stack([tone(1, 16000, 440), tone(1, 16000, 660)], axis=1)
    spectrum = np.abs(np.fft.rfft(heard(telephone(encoded(stereo, 16000)))))
    bins = [int(hz * len(spectrum) * 2 / RATE) for hz in (440, 660, 550)]
    left, right, between = [spectrum[one - 5 : one + 6].max() for one in bins]
    assert min(left, right) > 20 * between


@pytest.mark.parametrize("level", [0.01, 0.1, 0.7, 1.0])
def test_the_peak_is_set_and_nothing_is_clipped(level: float) -> None:
    signal = heard(telephone(encoded(tone(1, 22050, level=level), 22050, subtype="FLOAT")))
    assert np.abs(signal).max() == pytest.approx(10 ** (-3 / 20), abs=0.001)


def test_audio_beyond_full_scale_is_brought_down_not_cut_off() -> None:
    signal = heard(telephone(encoded(tone(1, RATE, 300, level=4.0), RATE, subtype="FLOAT")))
    crest = np.abs(signal).max() / np.sqrt(np.mean(signal[1000:-1000] ** 2))
    assert crest == pytest.approx(np.sqrt(2), rel=0.02)  # still a sine


@pytest.mark.parametrize("before_s", [0, 0.05, 0.1, 0.5, 3])
@pytest.mark.parametrize("after_s", [0, 0.1, 2])
def test_silence_at_the_ends_becomes_a_tenth_of_a_second(before_s: float, after_s: float) -> None:
    rate = 16000
    noise = np.random.default_rng(1).normal(0, 0.0002, int((before_s + 1 + after_s) * rate))
    start = int(before_s * rate)
    noise[start : start + rate] += tone(1, rate)[: len(noise) - start]
    signal = heard(telephone(encoded(noise, rate, subtype="FLOAT")))
    loud = np.flatnonzero(np.abs(signal) > 0.05)
    assert loud[0] / RATE == pytest.approx(0.1, abs=0.02)
    assert (len(signal) - loud[-1]) / RATE == pytest.approx(0.1, abs=0.02)


def test_silence_between_words_stays() -> None:
    gap = np.concatenate([tone(0.5, RATE), np.zeros(RATE), tone(0.5, RATE)])
    assert len(heard(telephone(encoded(gap, RATE)))) / RATE == pytest.approx(2.2, abs=0.02)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not audio"),
        (b"garbage" * 100, "not audio"),
        (b"<html>502 Bad Gateway</html>", "not audio"),
        (encoded(np.zeros(0), RATE), "empty"),
        (encoded(np.zeros(RATE), RATE), "silent"),
        (encoded(tone(1, RATE, level=0.001), RATE, subtype="FLOAT"), "silent"),
        (encoded(np.full(RATE, np.nan), RATE, subtype="FLOAT"), "no numbers"),
        (encoded(np.full(RATE, np.inf), RATE, subtype="FLOAT"), "no numbers"),
        (encoded(np.tile(tone(1, 4000, 100), 601), 4000), "longer than"),
        (encoded(tone(1, RATE), 1000), "1000 Hz"),
        (encoded(np.ones((100, 9)), RATE), "9 channels"),
    ],
)
def test_what_is_no_prompt_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadAudio, match=why):
        telephone(data)


@pytest.mark.parametrize("claimed", [0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_that_was_written_to_a_pipe_claims_any_length(claimed: int) -> None:
    data = bytearray(encoded(tone(1, 22050), 22050))
    struct.pack_into("<I", data, 4, min(claimed + 36, 0xFFFFFFFF))
    struct.pack_into("<I", data, 40, claimed)
    assert len(heard(telephone(bytes(data)))) / RATE == pytest.approx(1.2, abs=0.03)


@given(st.binary(max_size=200), st.integers(0, 60))
def test_damaged_files_are_refused_or_read_but_never_blow_up(noise: bytes, place: int) -> None:
    data = bytearray(encoded(tone(0.2, 16000), 16000))
    data[place : place + len(noise)] = noise
    try:
        signal = heard(telephone(bytes(data)))
    except BadAudio:
        return
    assert 0 < len(signal) / RATE < 600


def test_what_is_cached_is_checked() -> None:
    good = telephone(encoded(tone(1, RATE), RATE))
    assert seconds_of(good) == pytest.approx(1.2, abs=0.02)
    assert seconds_of(b"") is None
    assert seconds_of(good[:20]) is None
    assert seconds_of(good[:-1000]) is None
    assert seconds_of(good[:44] + bytes(len(good) - 44)) is None
    assert seconds_of(bytes(len(good))) is None
    assert seconds_of(encoded(tone(1, 16000), 16000)) is None
    assert seconds_of(encoded(np.stack([tone(1, RATE)] * 2, axis=1), RATE)) is None
    assert seconds_of(wav(b"")) is None
