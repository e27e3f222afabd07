"""The voices that an owner plugs in: a program, an HTTP service, recordings: what they do, how they fail."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

from huibo.config import HttpVoiceSettings, PromptSettings
from huibo.prompts.choose import library_of, say_once, voice_of
from huibo.prompts.command import CommandVoice
from huibo.prompts.espeak import EspeakVoice
from huibo.prompts.files import RecordedPrompts
from huibo.prompts.http import HttpVoice
from huibo.prompts.voice import Gender, VoiceFailed

ROOT = Path(__file__).parents[2]
FEMALE, MALE = Gender
PLAIN = {
    "folder": "prompts",
    "max_text_chars": 500,
    "concurrency": 4,
    "keep_mb": 1000,
    "keep_days": 30,
    "recordings": "",
    "voice": "espeak",
    "timeout_s": 20.0,
    "max_audio_mb": 20,
    "words_per_minute": 150,
    "spell_out": False,
    "command": [],
    "http": {"url": "", "headers": {}, "body": {}, "female": "female", "male": "male"},
}


def beep(seconds: float = 0.5, hz: float = 440) -> bytes:
    file = io.BytesIO()
    times = np.arange(int(seconds * 8000)) / 8000
    soundfile.write(file, 0.5 * np.sin(2 * np.pi * hz * times), 8000, format="WAV", subtype="PCM_16")
    return file.getvalue()


async def failure(saying: Awaitable[bytes]) -> str:
    with pytest.raises(VoiceFailed) as failed:
        await saying
    message = str(failed.value)
    assert "\n" not in message
    return message


# ---- a program


def command(
    script: str, *more: str, timeout_s: float = 10, max_bytes: int = 10**6, spell_out: bool = False
) -> CommandVoice:
    argv = ("/bin/sh", "-c", script, "voice", *more)
    return CommandVoice(argv, timeout_s=timeout_s, max_bytes=max_bytes, spell_out=spell_out)


async def test_a_program_gets_the_text_and_who_speaks() -> None:
    voice = command('cat; echo " $1 $2 $3"', "$gender", "--lang=$language", "$unknown {gender} 100%")
    assert await voice.say("您好 $1", FEMALE) == "您好 $1 female --lang=zh $unknown {gender} 100%\n".encode()
    assert await voice.say("Press 1", MALE) == b"Press 1 male --lang=en $unknown {gender} 100%\n"


async def test_a_program_may_get_numbers_as_words() -> None:
    assert await command("cat", spell_out=True).say("订单12345", FEMALE) == "订单 一 二 三 四 五".encode()


async def test_no_shell_reads_the_text() -> None:
    text = '\'; touch /tmp/x; $(id) `id` "quoted" \\ \n&& exit 3'
    assert await command("cat").say(text, FEMALE) == text.encode()


async def test_a_program_need_not_read_the_text() -> None:
    assert await command("exec <&-; echo sound").say("好" * 100_000, FEMALE) == b"sound\n"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 3", "voice command: exit code 3"),
        ("echo one >&2; echo 'no such model' >&2; exit 1", "voice command: exit code 1: no such model"),
        ("echo half a sound; kill -9 $$", "voice command: exit code -9"),
        ("true", "voice command: no output"),
        ("cat /dev/zero", "voice command: more than 1000000 bytes of output"),
        ("cat /dev/zero >&2 & exit 4", "voice command: not done within 3 s"),
    ],
)
async def test_how_programs_fail(script: str, why: str) -> None:
    assert await failure(command(script, timeout_s=3).say("您好", FEMALE)) == why


async def test_a_program_that_is_not_there_is_named() -> None:
    voice = CommandVoice(["/nowhere/tts", "$gender"], timeout_s=1, max_bytes=10, spell_out=False)
    assert (
        await failure(voice.say("您好", FEMALE))
        == "voice command: /nowhere/tts does not start: No such file or directory"
    )


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    voice = command(f"sleep 60 & echo $! $$ > {pids}; wait", timeout_s=2.0)
    assert await failure(voice.say("您好", FEMALE)) == "voice command: not done within 2 s"
    child, itself = map(int, pids.read_text().split())
    assert not running(itself)
    async with asyncio.timeout(5):
        while running(child):
            await asyncio.sleep(0.01)


async def test_what_a_program_leaves_behind_elsewhere_does_not_hold_up_the_call(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    voice = command(f"setsid sh -c 'echo $$ > {pid}; exec sleep 30' & echo sound", timeout_s=2.0)
    began = asyncio.get_running_loop().time()
    assert await failure(voice.say("您好", FEMALE)) == "voice command: not done within 2 s"
    assert asyncio.get_running_loop().time() - began < 6
    os.kill(int(pid.read_text()), signal.SIGKILL)


async def test_who_goes_away_ends_the_program(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    leaving = asyncio.create_task(command(f"echo $$ > {pid}; exec sleep 60").say("您好", FEMALE))
    async with asyncio.timeout(10):
        while not (pid.exists() and pid.read_text().endswith("\n")):
            await asyncio.sleep(0.01)
    process = int(pid.read_text())
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert not running(process)


async def test_programs_run_side_by_side() -> None:
    texts = [f"text {number}" for number in range(8)]
    voice = command("sleep 0.3; cat")
    began = asyncio.get_running_loop().time()
    said = await asyncio.gather(*(voice.say(text, FEMALE) for text in texts))
    assert said == [text.encode() for text in texts]
    assert asyncio.get_running_loop().time() - began < 1.5


UVLOOP = """
import asyncio, os, signal, uvloop
from huibo.prompts.command import CommandVoice
from huibo.prompts.espeak import EspeakVoice
from huibo.prompts.voice import Gender, VoiceFailed

async def told(saying):
    try:
        return len(await saying)
    except VoiceFailed as error:
        return str(error)

async def main():
    for script in ("cat", "exec <&-; echo x", "sleep 60", "cat /dev/zero", "echo no >&2; exit 3"):
        voice = CommandVoice(("/bin/sh", "-c", script), timeout_s=2, max_bytes=10**6, spell_out=False)
        print(await told(voice.say("x" * 100_000, Gender.MALE)))
    voice = EspeakVoice(timeout_s=5)
    print(await told(voice.say("您好", Gender.MALE)) > 20000)
    os.kill(voice.pid, signal.SIGSTOP)
    print(await told(voice.say("您好", Gender.MALE)))
    print(await told(voice.say("您好", Gender.MALE)) > 20000)
    await voice.close()

uvloop.run(main())
"""


async def test_the_loop_of_the_server_makes_no_difference() -> None:
    """huibo runs on uvloop, whose transports are not asyncio's."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", UVLOOP), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    output, _ = await process.communicate()
    assert output.decode().splitlines() == [
        "100000",
        "2",
        "voice command: not done within 2 s",
        "voice command: more than 1000000 bytes of output",
        "voice command: exit code 3: no",
        "True",
        "voice espeak: no answer within 5 s",
        "True",
    ]


# ---- an HTTP service

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """A real server that answers as the test says and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Answer = self.beep

    async def beep(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=beep(), content_type="audio/wav")

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        self.headers.append(dict(request.headers))
        return await self.answer(request)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.router.add_post("/tts", service.take)
    async with TestServer(app) as server:
        service.url = str(server.make_url("/tts"))
        yield service


def http(
    service: Service, timeout_s: float = 5, max_bytes: int = 10**6, spell_out: bool = False, **settings: Any
) -> HttpVoice:
    given = {"url": service.url, "headers": {}, "body": {}, "female": "female", "male": "male"} | settings
    return HttpVoice(
        HttpVoiceSettings(**given), timeout_s=timeout_s, max_bytes=max_bytes, spell_out=spell_out
    )


async def test_a_service_gets_the_text_and_who_speaks(service: Service) -> None:
    voice = http(service, headers={"Authorization": "Bearer secret"})
    assert await voice.say("您好", FEMALE) == beep()
    assert await voice.say("Hello", MALE) == beep()
    assert service.asked == [
        {"text": "您好", "gender": "female", "language": "zh"},
        {"text": "Hello", "gender": "male", "language": "en"},
    ]
    assert all(headers["Authorization"] == "Bearer secret" for headers in service.headers)
    await voice.close()


async def test_the_body_can_be_any_that_a_service_wants(service: Service) -> None:
    more = [{"lang": "$language-CN", "cost": "$5 $$ ${text}$gender键"}, None]
    body = {"model": "m", "input": "$text", "voice": "$gender", "speed": 1.2, "more": more}
    voice = http(service, body=body, female="anna", male="ben", spell_out=True)
    await voice.say("$gender 订单12345", MALE)
    await voice.close()
    assert service.asked == [
        {
            "model": "m",
            "input": "美元 gender 订单 一 二 三 四 五",
            "voice": "ben",
            "speed": 1.2,
            "more": [{"lang": "zh-CN", "cost": "$5 $$ ${text}ben键"}, None],
        }
    ]


async def test_a_placeholder_in_the_text_stays_text(service: Service) -> None:
    voice = http(service, body={"say": "$text", "as": "$gender"}, female="anna")
    await voice.say("$gender $text $language", FEMALE)
    await voice.close()
    assert service.asked == [{"say": "$gender $text $language", "as": "anna"}]


async def refuse(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=401, text="wrong token: secret")


async def redirect(_request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/elsewhere")


async def hang(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def break_off(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "1000000"})
    await answer.prepare(request)
    await answer.write(beep())
    assert request.transport is not None
    request.transport.close()
    return answer


async def pour(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(1000):
        await answer.write(bytes(65536))
    return answer


async def drip(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(1000):
        await answer.write(b"x")
        await asyncio.sleep(0.05)
    return answer


async def nothing(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (refuse, "voice http: answered 401"),
        (redirect, "voice http: answered 302"),
        (hang, "voice http: no answer within 0.5 s"),
        (drip, "voice http: no answer within 0.5 s"),
        (break_off, "voice http: the connection was closed in the middle of the answer"),
        (pour, "voice http: more than 1000000 bytes in the answer"),
        (nothing, "voice http: an empty answer"),
    ],
)
async def test_how_services_fail(service: Service, answer: Answer, why: str) -> None:
    voice = http(service, timeout_s=0.5)
    service.answer = answer
    assert await failure(voice.say("您好", FEMALE)) == why
    service.answer = service.beep
    assert await voice.say("您好", FEMALE) == beep()
    await voice.close()


async def test_a_service_that_is_not_there(unused_tcp_port: int) -> None:
    settings = HttpVoiceSettings(
        url=f"http://127.0.0.1:{unused_tcp_port}/?token=secret",
        headers={},
        body={},
        female="female",
        male="male",
    )
    voice = HttpVoice(settings, timeout_s=2, max_bytes=100, spell_out=False)
    message = await failure(voice.say("您好", FEMALE))
    assert message.startswith("voice http: no connection (")
    assert "secret" not in message
    await voice.close()


async def test_a_fingerprint_of_a_service_holds_no_header(service: Service) -> None:
    one, other = (http(service, headers={"Authorization": token}) for token in ("old", "new"))
    assert one.fingerprint("您好", MALE) == other.fingerprint("您好", MALE)
    assert one.fingerprint("您好", MALE) != one.fingerprint("您好", FEMALE)
    assert one.fingerprint("您好", MALE) != http(service, spell_out=False, body={"t": "$text"}).fingerprint(
        "您好", MALE
    )


# ---- recordings


@pytest.fixture
async def espeak() -> AsyncIterator[EspeakVoice]:
    voice = EspeakVoice(timeout_s=20)
    yield voice
    await voice.close()


LIST = """
[[prompt]]
name = "welcome"
text = "您好，欢迎致电。"
file = "welcome.wav"
male = "men/welcome.wav"

[[prompt]]
name = "bye"
file = "bye.wav"

[[prompt]]
name = "outside"
file = "../secret.wav"
"""


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    (folder / "men").mkdir(parents=True)
    (folder / "prompts.toml").write_text(LIST, "utf-8")
    (folder / "welcome.wav").write_bytes(beep(0.5))
    (folder / "men" / "welcome.wav").write_bytes(beep(0.7))
    (tmp_path / "secret.wav").write_bytes(beep())
    return folder


def recorded(folder: Path, fallback: EspeakVoice, max_bytes: int = 10**6) -> RecordedPrompts:
    return RecordedPrompts(folder, fallback, max_bytes)


async def test_names_and_exact_texts_are_played_from_files(recordings: Path, espeak: EspeakVoice) -> None:
    voice = recorded(recordings, espeak)
    for text in ("@welcome", "您好，欢迎致电。", " 您好，欢迎致电。\n"):
        assert await voice.say(text, FEMALE) == beep(0.5)
        assert await voice.say(text, MALE) == beep(0.7)
    assert espeak.pid is None


async def test_every_other_text_goes_to_the_voice_behind(recordings: Path, espeak: EspeakVoice) -> None:
    voice = recorded(recordings, espeak)
    said = await voice.say("您好，欢迎", FEMALE)
    assert said.startswith(b"RIFF")
    assert len(said) > len(beep())
    assert voice.fingerprint("您好，欢迎", MALE) == espeak.fingerprint("您好，欢迎", MALE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("@unknown", "voice recordings: prompts.toml has no prompt @unknown"),
        ("@bye", "voice recordings: bye.wav: No such file or directory"),
        ("@outside", "voice recordings: ../secret.wav is not in the folder"),
        ("@huge", "voice recordings: prompts.toml has no prompt @huge"),
    ],
)
async def test_a_recording_that_is_not_there_is_told(
    recordings: Path, espeak: EspeakVoice, text: str, why: str
) -> None:
    voice = recorded(recordings, espeak)
    assert await failure(voice.say(text, FEMALE)) == why
    voice.fingerprint(text, FEMALE)


async def test_a_link_out_of_the_folder_is_refused(recordings: Path, espeak: EspeakVoice) -> None:
    (recordings / "bye.wav").symlink_to(recordings.parent / "secret.wav")
    assert (
        await failure(recorded(recordings, espeak).say("@bye", FEMALE))
        == "voice recordings: bye.wav is not in the folder"
    )


async def test_a_recording_that_is_too_large_is_refused(recordings: Path, espeak: EspeakVoice) -> None:
    why = await failure(recorded(recordings, espeak, max_bytes=1000).say("@welcome", FEMALE))
    assert why == "voice recordings: welcome.wav is larger than 1000 bytes"


async def test_a_changed_file_or_list_is_seen_at_once(recordings: Path, espeak: EspeakVoice) -> None:
    voice = recorded(recordings, espeak)
    before = voice.fingerprint("@welcome", FEMALE)
    (recordings / "welcome.wav").write_bytes(beep(0.9))
    assert voice.fingerprint("@welcome", FEMALE) != before
    assert await voice.say("@welcome", FEMALE) == beep(0.9)
    (recordings / "prompts.toml").write_text('[[prompt]]\nname = "new"\nfile = "welcome.wav"', "utf-8")
    assert await voice.say("@new", FEMALE) == beep(0.9)
    assert "no prompt @welcome" in await failure(voice.say("@welcome", FEMALE))


@pytest.mark.parametrize(
    "damage", ["[[prompt]", '[[prompt]]\nname = "x"', "[[prompt]]\nfile = 3", '[more]\nx = "y"', None]
)
async def test_a_damaged_list_leaves_the_old_one_in_force(
    recordings: Path, espeak: EspeakVoice, damage: str | None
) -> None:
    voice = recorded(recordings, espeak)
    await voice.say("@welcome", FEMALE)
    if damage is None:
        (recordings / "prompts.toml").unlink()
    else:
        (recordings / "prompts.toml").write_text(damage, "utf-8")
    assert await voice.say("@welcome", FEMALE) == beep(0.5)
    assert (await voice.say("您好", FEMALE)).startswith(b"RIFF")
    assert (await failure(recorded(recordings, espeak).say("@welcome", FEMALE))).startswith(
        "voice recordings: prompts.toml: "
    )


# ---- what the settings choose


def settings(**changes: Any) -> PromptSettings:
    return PromptSettings.model_validate(PLAIN | changes)


def test_the_settings_choose_the_voice(recordings: Path) -> None:
    http_settings = PLAIN["http"] | {"url": "https://tts.example/speak"}  # type: ignore[operator]
    assert isinstance(voice_of(settings()), EspeakVoice)
    assert isinstance(voice_of(settings(voice="command", command=["tts"])), CommandVoice)
    assert isinstance(voice_of(settings(voice="http", http=http_settings)), HttpVoice)
    assert isinstance(voice_of(settings(recordings=str(recordings))), RecordedPrompts)


@pytest.mark.parametrize(
    "changes",
    [
        {"voice": "command"},
        {"voice": "http"},
        {"voice": "siri"},
        {"words_per_minute": 10},
        {"timeout_s": 0},
        {"max_text_chars": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**changes)


def test_a_folder_that_asterisk_would_take_apart_is_refused() -> None:
    with pytest.raises(ValueError, match="no comma"):
        library_of(settings(folder="/srv/prompts,old"))


async def test_one_text_without_a_library() -> None:
    assert (await say_once(settings(), "您好", MALE)).startswith(b"RIFF")
    with pytest.raises(VoiceFailed, match="voice command: this is not audio"):
        await say_once(settings(voice="command", command=["cat"]), "您好", MALE)


async def test_from_settings_to_sound_by_a_program_and_by_a_service(tmp_path: Path, service: Service) -> None:
    (tmp_path / "beep.wav").write_bytes(beep())
    by_program = settings(
        folder=str(tmp_path / "p"), voice="command", command=["cat", str(tmp_path / "beep.wav")]
    )
    by_service = settings(folder=str(tmp_path / "p"), voice="http", http=PLAIN["http"] | {"url": service.url})  # type: ignore[operator]
    for chosen in (by_program, by_service):
        library = library_of(chosen)
        await library.start()
        prompt = await library.prepare("您好", FEMALE)
        assert prompt.seconds == pytest.approx(0.7, abs=0.02)
        await library.close()
    assert len(list((tmp_path / "p").iterdir())) == 2
    assert (
        json.dumps(service.asked[0], ensure_ascii=False)
        == '{"text": "您好", "gender": "female", "language": "zh"}'
    )
