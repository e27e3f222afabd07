"""One behaviour for every voice: what a library needs of it, whoever speaks.

All are real: espeak-ng's helper process, a program, an HTTP server that speaks with espeak-ng, recordings.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import soundfile
from aiohttp import web
from aiohttp.test_utils import TestServer

from huibo.config import HttpVoiceSettings
from huibo.prompts.audio import seconds_of, telephone
from huibo.prompts.command import CommandVoice
from huibo.prompts.espeak import EspeakVoice
from huibo.prompts.files import RecordedPrompts
from huibo.prompts.http import HttpVoice
from huibo.prompts.library import PromptLibrary
from huibo.prompts.voice import Gender, Voice, VoiceFailed

ROOT = Path(__file__).parents[2]
GREETING = "您好，欢迎致电。"  # what the recordings have in both voices
TEXTS = ["您有一个来电，请按1接听", "Please press one to answer.", "您好，press 1，谢谢", "订单12345"]
NOTHING = "😀"  # nothing in it can be spoken: every voice fails on it

PROGRAM = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from huibo.prompts.espeak_worker import Speaker
from huibo.prompts.voice import Gender
try:
    sound = Speaker().say(sys.stdin.read(), Gender[sys.argv[1].upper()], 150)
except ValueError as error:
    sys.exit(str(error))
sys.stdout.buffer.write(sound)
"""


@pytest.fixture(scope="module")
async def espeak() -> AsyncIterator[EspeakVoice]:
    voice = EspeakVoice(timeout_s=20)
    yield voice
    await voice.close()


@pytest.fixture(scope="module")
async def service(espeak: EspeakVoice) -> AsyncIterator[str]:
    """A text-to-speech service on this machine."""

    async def speak(request: web.Request) -> web.Response:
        asked = await request.json()
        try:
            sound = await espeak.say(asked["text"], Gender[asked["gender"].upper()])
        except VoiceFailed as error:
            return web.Response(status=422, text=str(error))
        if form := request.query.get("form"):
            samples, rate = soundfile.read(io.BytesIO(sound))
            file = io.BytesIO()
            soundfile.write(file, samples, rate, format=form)
            sound = file.getvalue()
        return web.Response(body=sound, content_type="audio/wav")

    app = web.Application()
    app.router.add_post("/speak", speak)
    async with TestServer(app) as server:
        yield str(server.make_url("/speak"))


@pytest.fixture(scope="module")
async def recordings(espeak: EspeakVoice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    entry = f'[[prompt]]\nname = "welcome"\ntext = "{GREETING}"\nfile = "w.wav"\nmale = "m.wav"\n'
    (folder / "prompts.toml").write_text(entry, "utf-8")
    for file, gender in (("w.wav", Gender.FEMALE), ("m.wav", Gender.MALE)):
        (folder / file).write_bytes(await espeak.say(GREETING, gender))
    return folder


@pytest.fixture(params=["espeak", "command", "http", "recordings"])
async def voice(request: pytest.FixtureRequest, service: str, recordings: Path) -> AsyncIterator[Voice]:
    voice: Voice
    match request.param:
        case "espeak":
            voice = EspeakVoice(timeout_s=20)
        case "command":
            argv = (sys.executable, "-c", PROGRAM, "$gender")
            voice = CommandVoice(argv, timeout_s=20, max_bytes=10**7, spell_out=False)
        case "http":
            settings = HttpVoiceSettings(url=service, headers={}, body={}, female="female", male="male")
            voice = HttpVoice(settings, timeout_s=20, max_bytes=10**7, spell_out=False)
        case _:
            voice = RecordedPrompts(recordings, EspeakVoice(timeout_s=20), max_bytes=10**7)
    yield voice
    await voice.close()


async def length(voice: Voice, text: str, gender: Gender = Gender.FEMALE) -> float:
    seconds = seconds_of(telephone(await voice.say(text, gender)))
    assert seconds is not None
    return seconds


@pytest.mark.parametrize("gender", Gender)
async def test_it_says_what_is_asked(voice: Voice, espeak: EspeakVoice, gender: Gender) -> None:
    for text in (*TEXTS, GREETING):
        assert await length(voice, text, gender) == pytest.approx(
            await length(espeak, text, gender), abs=0.05
        )


async def test_a_man_and_a_woman_differ(voice: Voice) -> None:
    for text in (TEXTS[0], GREETING):
        female, male = [telephone(await voice.say(text, gender)) for gender in Gender]
        assert female != male
        assert voice.fingerprint(text, Gender.FEMALE) != voice.fingerprint(text, Gender.MALE)


async def test_a_failure_is_one_line_that_names_the_voice(voice: Voice) -> None:
    with pytest.raises(VoiceFailed) as failed:
        await voice.say(NOTHING, Gender.FEMALE)
    assert str(failed.value).startswith("voice ")
    assert len(str(failed.value).splitlines()) == 1


async def test_a_failure_concerns_no_other_text(voice: Voice) -> None:
    results = await asyncio.gather(
        *(voice.say(text, Gender.FEMALE) for text in (TEXTS[0], NOTHING, TEXTS[1], NOTHING)),
        return_exceptions=True,
    )
    assert [isinstance(result, VoiceFailed) for result in results] == [False, True, False, True]
    assert await length(voice, TEXTS[0]) > 3


async def test_texts_at_once_do_not_mix(voice: Voice) -> None:
    texts = [*TEXTS, GREETING]
    alone = [await length(voice, text) for text in texts]
    together = await asyncio.gather(*(length(voice, text) for text in texts * 2))
    assert together == pytest.approx(alone * 2, abs=0.05)


async def test_the_fingerprint_is_of_the_text_and_lasts(voice: Voice) -> None:
    prints = [voice.fingerprint(text, gender) for text in (*TEXTS, GREETING) for gender in Gender]
    assert len(set(prints)) == len(prints)
    await voice.say(TEXTS[0], Gender.FEMALE)
    assert [voice.fingerprint(text, gender) for text in (*TEXTS, GREETING) for gender in Gender] == prints


async def test_it_can_be_closed_at_any_time_and_asked_again(voice: Voice) -> None:
    await voice.close()
    before = await length(voice, TEXTS[0])
    await voice.close()
    await voice.close()
    assert await length(voice, TEXTS[0]) == pytest.approx(before, abs=0.05)


async def test_who_goes_away_disturbs_nobody(voice: Voice) -> None:
    usual = await length(voice, TEXTS[0])
    leaving = [asyncio.create_task(voice.say(TEXTS[1], Gender.MALE)) for _ in range(4)]
    await asyncio.sleep(0.01)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    assert await length(voice, TEXTS[0]) == pytest.approx(usual, abs=0.05)


async def test_a_library_makes_prompts_with_it(voice: Voice, tmp_path: Path) -> None:
    library = PromptLibrary(tmp_path / "prompts", voice)
    await library.start()
    prompts = await asyncio.gather(*(library.prepare(text, Gender.MALE) for text in (*TEXTS, GREETING) * 3))
    assert len({prompt.path for prompt in prompts}) == 5
    assert all(prompt.seconds > 0.7 for prompt in prompts)
    with pytest.raises(VoiceFailed):
        await library.prepare(NOTHING, Gender.MALE)
    await library.close()


@pytest.mark.parametrize("form", ["MP3", "OGG", "FLAC"])
async def test_a_service_may_answer_in_any_form(form: str, service: str, espeak: EspeakVoice) -> None:
    settings = HttpVoiceSettings(
        url=f"{service}?form={form}", headers={}, body={}, female="female", male="male"
    )
    voice = HttpVoice(settings, timeout_s=20, max_bytes=10**7, spell_out=False)
    assert not (await voice.say(TEXTS[0], Gender.MALE)).startswith(b"RIFF")
    assert await length(voice, TEXTS[0]) == pytest.approx(await length(espeak, TEXTS[0]), abs=0.1)
    await voice.close()
