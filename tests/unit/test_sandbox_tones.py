"""Tones are found where they are, for as long as they are there, and nowhere else."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.sandbox.tones import (
    RATE,
    RINGBACK_HZ,
    SameTone,
    Samples,
    dominant,
    hear_each_other,
    hears,
    load,
    tone_of,
)

A, B = "13800138000", "13900139001"


def sine(hz: float, seconds: float, amplitude: float = 0.22) -> Samples:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE))


def join(*parts: Samples) -> Samples:
    return np.concatenate(parts)


RINGBACK = join(*[sine(RINGBACK_HZ, 1), silence(4)] * 3)
INFORMATION = join(*[sine(950, 0.33), sine(1400, 0.33), sine(1800, 0.33), silence(1)] * 5)


def write(path: Path, samples: Samples, rate: int = RATE, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize(
    ("number", "hz"),
    [("13800138000", 1370), ("01088880000", 1060), ("010888800001", 2190), ("0", 400), ("240", 2800)],
)
def test_a_number_has_its_tone(number: str, hz: int) -> None:
    assert tone_of(number) == hz


@pytest.mark.parametrize("number", ["", "+8613800138000", "1380013800a", "１３８", "-5"])
def test_only_digits_have_a_tone(number: str) -> None:
    with pytest.raises(ValueError, match="not the digits"):
        tone_of(number)


@given(st.integers(0, 240), st.integers(0, 240), st.floats(0.5, 4), st.floats(0, 2))
def test_a_tone_is_heard_as_long_as_it_lasts_and_no_other(n: int, m: int, lasts: float, late: float) -> None:
    said, other = 400 + 10 * n, 400 + 10 * m
    samples = join(silence(late), sine(said, lasts))
    heard = hears(samples, said)
    if said == RINGBACK_HZ and lasts < 1.4:
        return  # may be taken for ringing
    assert heard
    assert heard.seconds == pytest.approx(lasts, abs=0.06)
    assert heard.begins_s == pytest.approx(late, abs=0.04)
    assert heard.level_db == pytest.approx(-13.2, abs=0.3)
    assert heard.share > 0.85  # by the seconds, which come in steps of 20 ms
    if other != said:
        assert not hears(samples, other)


@pytest.mark.parametrize("tone", [950, 1400, 1800])
def test_the_information_tone_is_nobodys_tone(tone: int) -> None:
    assert not hears(INFORMATION, tone)


def test_ringing_is_not_the_tone_that_has_its_frequency() -> None:
    assert not hears(RINGBACK, RINGBACK_HZ)
    heard = hears(join(RINGBACK, sine(RINGBACK_HZ, 3)), RINGBACK_HZ)
    assert heard.seconds == pytest.approx(3, abs=0.05)
    assert heard.begins_s == pytest.approx(15, abs=0.05)


def test_a_tone_is_heard_after_ringing() -> None:
    heard = hears(join(RINGBACK, sine(1370, 3)), 1370)
    assert heard.seconds == pytest.approx(3, abs=0.05)
    assert heard.share == pytest.approx(0.5, abs=0.05)


def test_keys_between_take_away_no_more_than_themselves() -> None:
    parts = [sine(1370, 3.7), silence(0.1), sine(941, 0.2) + sine(1336, 0.2)]
    assert hears(join(*parts * 4), 1370).seconds == pytest.approx(4 * 3.7, abs=0.3)


def test_a_lost_packet_does_not_end_a_tone() -> None:
    tone = sine(1370, 4)
    torn = join(tone[: 2 * RATE], tone[2 * RATE + 84 :])  # the phase turns by half
    assert hears(torn, 1370).seconds == pytest.approx(4, abs=0.1)


def test_two_voices_at_once_are_both_heard() -> None:
    both = sine(1370, 3) + sine(2000, 3)
    assert hears(both, 1370).seconds > 2.8
    assert hears(both, 2000).share == pytest.approx(0.5, abs=0.05)


def test_noise_is_nobodys_tone() -> None:
    noise = 0.3 * np.random.default_rng(1).standard_normal(10 * RATE)
    assert not any(hears(noise, tone) for tone in range(400, 2801, 10))


def test_a_whisper_below_the_threshold_is_not_heard() -> None:
    assert hears(sine(1370, 2, amplitude=0.004), 1370)
    assert not hears(sine(1370, 2, amplitude=0.002), 1370)


@pytest.mark.parametrize("seconds", [0, 0.01, 0.099, 3])
def test_silence_holds_nothing(seconds: float) -> None:
    heard = hears(silence(seconds), 1370)
    assert (heard.seconds, heard.level_db, heard.share, heard.begins_s) == (0, float("-inf"), 0, None)
    assert [one.hz for one in dominant(silence(seconds))] == [None] * int(seconds * 2)


@pytest.mark.parametrize("tone", [1375, 0, 4000, -10])
def test_what_is_no_tone_is_refused(tone: int) -> None:
    with pytest.raises(ValueError, match="no tone"):
        hears(silence(1), tone)


def test_the_strongest_frequency_of_each_half_second() -> None:
    found = dominant(join(sine(1370, 1), silence(0.5), sine(950, 0.7, amplitude=0.5)))
    assert [(one.at_s, one.hz) for one in found] == [(0, 1370), (0.5, 1370), (1, None), (1.5, 950)]
    assert found[0].level_db == pytest.approx(-13.2, abs=0.1)
    assert found[3].level_db == pytest.approx(-6.0, abs=0.1)


def test_files_are_read(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", sine(1370, 2))
    assert hears(file, 1370).seconds == pytest.approx(2, abs=0.04)
    assert {one.hz for one in dominant(file)} == {1370}


def test_a_file_with_nothing_in_it_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    assert not hears(tmp_path / "empty.wav", 1370)
    assert not hears(write(tmp_path / "header.wav", silence(0)), 1370)


def test_a_file_that_is_still_written_is_no_proof_of_silence(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", sine(1370, 2))
    whole = bytearray(file.read_bytes())
    whole[40:44] = bytes(4)  # the length of the data, which is set on closing
    file.write_bytes(whole)
    with pytest.raises(ValueError, match="still being written"):
        load(file)


def test_files_of_another_form_are_refused(tmp_path: Path) -> None:
    for form in ({"rate": 16000}, {"channels": 2}):
        with pytest.raises(ValueError, match="not 8 kHz mono"):
            load(write(tmp_path / "other.wav", silence(1), **form))
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.wav")


def test_each_heard_the_other(tmp_path: Path) -> None:
    by_a = write(tmp_path / "a.wav", join(RINGBACK, sine(tone_of(B), 3)))
    by_b = write(tmp_path / "b.wav", sine(tone_of(A), 2))
    of_b, of_a = hear_each_other(A, by_a, B, by_b)
    assert of_b.seconds == pytest.approx(3, abs=0.05)
    assert of_a.seconds == pytest.approx(2, abs=0.05)
    assert not any(hear_each_other(A, by_b, B, by_a))


def test_numbers_with_the_same_tone_prove_nothing(tmp_path: Path) -> None:
    twin = str(int(A) + 241)
    file = write(tmp_path / "a.wav", sine(tone_of(A), 3))
    with pytest.raises(SameTone, match=f"{A} and {twin} both have the tone of 1370 Hz"):
        hear_each_other(A, file, twin, file)
