"""What espeak-ng's voice sounds like, measured: length, level, pitch. Nobody can listen here."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator

import numpy as np
import pytest
from numpy.typing import NDArray

from huibo.prompts.audio import RATE, telephone
from huibo.prompts.espeak import EspeakVoice
from huibo.prompts.voice import Gender

Signal = NDArray[np.float64]

FRAME, HOP = RATE // 20, RATE // 100  # 50 ms, every 10 ms
LOWEST_HZ, HIGHEST_HZ = 60, 400


@pytest.fixture(scope="module")
async def voice() -> AsyncIterator[EspeakVoice]:
    voice = EspeakVoice(timeout_s=20)
    yield voice
    await voice.close()


async def sound(voice: EspeakVoice, text: str, gender: Gender = Gender.FEMALE) -> Signal:
    """What a caller hears, full scale 1."""
    with wave.open(io.BytesIO(telephone(await voice.say(text, gender)))) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def seconds(signal: Signal) -> float:
    return len(signal) / RATE


def pitch(signal: Signal) -> Signal:
    """The fundamental in Hz of each voiced frame, by autocorrelation."""
    found = []
    loud = 0.1 * np.abs(signal).max()
    shortest, longest = RATE // HIGHEST_HZ, RATE // LOWEST_HZ
    for start in range(0, len(signal) - FRAME, HOP):
        frame = signal[start : start + FRAME]
        if np.sqrt(np.mean(frame**2)) < loud:
            continue
        frame = (frame - frame.mean()) * np.hanning(FRAME)
        alike = np.correlate(frame, frame, "full")[FRAME - 1 :]
        alike /= np.arange(FRAME, 0, -1)  # else longer lags look less alike
        lag = shortest + int(np.argmax(alike[shortest:longest]))
        # a multiple of the period is as much alike: take the shortest lag that is nearly as good
        for part in (4, 3, 2):
            near = alike[max(shortest, lag // part - 2) : lag // part + 3]
            if lag // part >= shortest and near.max() > 0.85 * alike[lag]:
                lag = max(shortest, lag // part - 2) + int(np.argmax(near))
                break
        if alike[lag] > 0.4 * alike[0]:
            found.append(RATE / lag)
    return np.array(found)


def quarters(signal: Signal) -> list[float]:
    """The pitch of a syllable in four steps."""
    return [float(np.median(part)) for part in np.array_split(pitch(signal), 4)]


def test_the_pitch_tracker_tracks_pitch() -> None:
    times = np.arange(RATE) / RATE
    for hz in (80, 120, 200, 310):
        buzz = sum(np.sin(2 * np.pi * hz * n * times) / n for n in range(1, 8))
        assert np.median(pitch(np.asarray(buzz))) == pytest.approx(hz, rel=0.03)
    sweep = np.sin(2 * np.pi * np.cumsum(np.linspace(100, 200, RATE)) / RATE)
    first, *_, last = quarters(sweep)
    assert first == pytest.approx(112, rel=0.08)
    assert last == pytest.approx(187, rel=0.08)
    assert len(pitch(np.random.default_rng(1).normal(0, 0.1, RATE))) < 20


@pytest.mark.parametrize("gender", Gender)
async def test_the_four_tones(voice: EspeakVoice, gender: Gender) -> None:
    """妈 is level, 麻 rises, 马 dips, 骂 falls."""
    level, rising, dipping, falling = [quarters(await sound(voice, char, gender)) for char in "妈麻马骂"]
    assert max(level) / min(level) < 1.12
    assert rising[-1] / rising[0] > 1.08
    assert rising == sorted(rising)
    assert min(dipping[1:3]) < dipping[0]
    assert dipping[-1] / min(dipping) > 1.05
    assert falling[-1] / falling[0] < 0.92
    assert np.mean(level) > np.mean(dipping) * 1.08


async def test_a_syllable_that_espeak_cannot_say_itself_has_its_tone(voice: EspeakVoice) -> None:
    level, rising = [quarters(await sound(voice, char)) for char in "兄熊"]
    assert max(level) / min(level) < 1.12
    assert rising[-1] / rising[0] > 1.04


@pytest.mark.parametrize("text", ["您有一个来电，请按1接听", "Please press one to answer the call."])
async def test_a_man_speaks_lower_than_a_woman(voice: EspeakVoice, text: str) -> None:
    female, male = [float(np.median(pitch(await sound(voice, text, gender)))) for gender in Gender]
    assert 150 < female < 260
    assert 75 < male < 140
    assert male < 0.7 * female


@pytest.mark.parametrize(
    ("text", "syllables"),
    [
        ("您有一个来电，请按1接听", 11),
        ("欢迎致电客户服务中心，您的来电对我们非常重要，请稍候。", 24),
        ("您的订单12345将于2026年11月22日12:30送达，金额¥128.50。", 42),
        ("请拨打400-136-0123", 13),
    ],
)
@pytest.mark.parametrize("gender", Gender)
async def test_the_length_fits_the_text(
    voice: EspeakVoice, text: str, syllables: int, gender: Gender
) -> None:
    spoken_s = seconds(await sound(voice, text, gender)) - 0.2
    assert 0.2 < spoken_s / syllables < 0.45


@pytest.mark.parametrize("gender", Gender)
async def test_nothing_is_clipped_and_nothing_is_faint(voice: EspeakVoice, gender: Gender) -> None:
    for text in ("您有一个来电，请按1接听", "Press 1", "您好，press 1，谢谢", "啊" * 60, "!" * 40 + "好"):
        with wave.open(io.BytesIO(await voice.say(text, gender))) as file:
            raw = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert np.abs(raw.astype(int)).max() < 32767
        heard = await sound(voice, text, gender)
        assert np.abs(heard).max() == pytest.approx(10 ** (-3 / 20), abs=0.001)
        assert np.sqrt(np.mean(heard**2)) > 0.03


async def test_digits_one_by_one_take_longer_than_the_number(voice: EspeakVoice) -> None:
    for digits in ("10000", "20000", "80000"):
        one_by_one, number = [
            seconds(await sound(voice, text)) for text in (f"号码{digits}", f"号码{digits}个")
        ]
        assert one_by_one > number + 0.3


async def test_marks_are_pauses(voice: EspeakVoice) -> None:
    none, comma, stop = [seconds(await sound(voice, f"您好{mark}谢谢")) for mark in ("", "，", "。")]
    assert none + 0.1 < comma < none + 0.6
    assert comma + 0.1 < stop < comma + 0.5
    none, comma, stop = [seconds(await sound(voice, f"您好{mark}hello")) for mark in ("", "，", "。")]
    assert none + 0.1 < comma < none + 0.6
    assert comma + 0.1 < stop < comma + 0.5


@pytest.mark.parametrize("gender", Gender)
async def test_chinese_and_english_are_as_loud_as_each_other(voice: EspeakVoice, gender: Gender) -> None:
    """Before the level is set: in a mixed text they share it."""
    levels = []
    for text in ("您的来电对我们非常重要", "Your call is important to us"):
        with wave.open(io.BytesIO(await voice.say(text, gender))) as file:
            raw = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
        levels.append(np.sqrt(np.mean(raw[np.abs(raw) > 300] ** 2)))
    assert 0.75 < levels[0] / levels[1] < 1.33


def spectrum(signal: Signal) -> Signal:
    """The shape of the sound, frame by frame: log energy in 24 bands."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::HOP] * np.hanning(FRAME)
    bands = np.array_split(np.abs(np.fft.rfft(frames)) ** 2, 24, axis=1)
    logs = np.log(np.stack([band.sum(axis=1) for band in bands], axis=1) + 1e-6)
    shape: Signal = logs - logs.mean()
    return shape


def likeness(part: Signal, whole: Signal) -> float:
    """How well the part is found in the whole, at the best place: 1 is exactly."""
    a, b = spectrum(part), spectrum(whole)
    places = range(max(1, len(b) - len(a) + 1))
    return max(float(np.corrcoef(a.ravel(), b[at : at + len(a)].ravel())[0, 1]) for at in places)


async def test_the_english_of_a_mixed_text_is_heard_as_english(voice: EspeakVoice) -> None:
    english = await sound(voice, "press one to answer")
    mixed = await sound(voice, "您好，press one to answer，谢谢")
    chinese = await sound(voice, "您好，请稍候，您的来电非常重要，谢谢，再见")
    assert seconds(mixed) > seconds(english) + 1
    assert likeness(english[800:-800], mixed) > 0.9
    assert likeness(english[800:-800], chinese) < 0.7


async def test_a_mans_words_are_the_same_words(voice: EspeakVoice) -> None:
    """Which text was spoken matters more than who speaks: else the last test would prove little."""
    yes, no = [await sound(voice, text) for text in ("请按一接听", "谢谢再见吧")]
    man = await sound(voice, "请按一接听", Gender.MALE)
    shortest = min(len(yes), len(no), len(man))
    assert likeness(man[:shortest], yes) > likeness(man[:shortest], no)


async def test_speed_is_a_setting() -> None:
    lengths = []
    for words_per_minute in (120, 150, 200):
        voice = EspeakVoice(timeout_s=20, words_per_minute=words_per_minute)
        lengths.append(seconds(await sound(voice, "您有一个来电，请按1接听")))
        await voice.close()
    assert lengths[0] > 1.15 * lengths[1]
    assert lengths[1] > 1.15 * lengths[2]
