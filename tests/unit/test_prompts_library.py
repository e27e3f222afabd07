"""The cache of prompts: each made once and whole, kept while it is used, made anew when damaged."""

from __future__ import annotations

import asyncio
import os
import stat
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from huibo.prompts.audio import telephone
from huibo.prompts.command import CommandVoice
from huibo.prompts.espeak import EspeakVoice
from huibo.prompts.library import Prompt, PromptLibrary, TextRefused
from huibo.prompts.voice import Gender, Voice, VoiceFailed

FEMALE, MALE = Gender
HOUR = 3600
DAY = 24 * HOUR

# says that it runs, and waits until it may go on
WAITING = 'echo ran >> "$0/ran"; until [ -e "$0/go" ]; do sleep 0.02; done; cat "$0/sound.wav"'

Start = Callable[..., Awaitable[PromptLibrary]]


@pytest.fixture(scope="module")
async def espeak() -> AsyncIterator[EspeakVoice]:
    voice = EspeakVoice(timeout_s=20)
    yield voice
    await voice.close()


@pytest.fixture(scope="module")
async def sound(espeak: EspeakVoice) -> bytes:
    return await espeak.say("您好", FEMALE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prompts"


@pytest.fixture
async def start(folder: Path, espeak: EspeakVoice) -> AsyncIterator[Start]:
    """Opens libraries on the folder, by default with the one espeak that these tests share."""
    opened: list[PromptLibrary] = []

    async def open_one(voice: Voice | None = None, **settings: float) -> PromptLibrary:
        library = PromptLibrary(folder, voice or espeak, **settings)  # type: ignore[arg-type]
        await library.start()
        opened.append(library)
        return library

    yield open_one
    for library in opened:
        await library.close()


def program(script: str, *more: Path, timeout_s: float = 20) -> CommandVoice:
    argv = ("/bin/sh", "-c", script, *map(str, more))
    return CommandVoice(argv, timeout_s=timeout_s, max_bytes=10**7, spell_out=False)


async def written(path: Path) -> str:
    """What a program writes into a file, as soon as it is there."""
    async with asyncio.timeout(10):
        while not (path.exists() and path.read_text().endswith("\n")):
            await asyncio.sleep(0.01)
    return path.read_text().strip()


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


async def test_a_prompt_is_a_file_that_asterisk_plays(start: Start, folder: Path) -> None:
    prompt = await (await start()).prepare("您有一个来电，请按1接听", FEMALE)
    assert prompt.path.is_absolute()
    assert prompt.path.parent == folder
    assert prompt.path.name.replace(".wav", "").isalnum()
    assert stat.S_IMODE(prompt.path.stat().st_mode) == 0o644
    with wave.open(str(prompt.path)) as file:
        form = (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getcomptype())
        assert form == (1, 2, 8000, "NONE")
        assert prompt.seconds == file.getnframes() / 8000
    assert 3 < prompt.seconds < 5
    assert files(folder) == [prompt.path.name]


async def test_what_is_made_is_kept_for_the_next_time_and_the_next_start(start: Start, folder: Path) -> None:
    first = await (await start()).prepare("您好", FEMALE)
    made_at = first.path.stat().st_ino
    again = await (await start()).prepare("您好", FEMALE)
    assert again == first
    assert again.path.stat().st_ino == made_at


async def test_text_gender_and_voice_make_the_prompt(start: Start, folder: Path) -> None:
    library, slow = await start(), await start(EspeakVoice(timeout_s=20, words_per_minute=110))
    prompts = [
        await library.prepare("您好", FEMALE),
        await library.prepare("您好", MALE),
        await library.prepare("您好。再见", FEMALE),
        await slow.prepare("您好", FEMALE),
    ]
    assert len({prompt.path for prompt in prompts}) == 4
    assert prompts[3].seconds > prompts[0].seconds + 0.1


async def test_a_hundred_that_ask_for_the_same_get_one_synthesis(
    start: Start, folder: Path, tmp_path: Path, sound: bytes
) -> None:
    """They ask while it is being made: the program waits until it is told to go on."""
    (tmp_path / "sound.wav").write_bytes(sound)
    library = await start(program(WAITING, tmp_path))
    asking = [asyncio.create_task(library.prepare("您好", FEMALE)) for _ in range(100)]
    await written(tmp_path / "ran")
    (tmp_path / "go").touch()
    prompts = await asyncio.gather(*asking)
    assert len(set(prompts)) == 1
    assert (await library.prepare("您好", FEMALE)) == prompts[0]
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert files(folder) == [prompts[0].path.name]


async def test_different_texts_at_once_do_not_mix(start: Start, espeak: EspeakVoice) -> None:
    texts = ["您好", "您有一个来电，请按1接听", "Please press one to answer", "订单12345"]
    asked = [(text, gender) for text in texts for gender in Gender]
    expected = [len(telephone(await espeak.say(*one))) / 16000 for one in asked]
    library = await start(concurrency=8)
    prompts = await asyncio.gather(*(library.prepare(*one) for one in asked * 3))
    assert [prompt.seconds for prompt in prompts] == pytest.approx(expected * 3, abs=0.05)
    assert len({prompt.path for prompt in prompts}) == len(asked)
    for prompt in prompts:
        assert prompt.path.stat().st_size == 44 + prompt.seconds * 16000


async def test_no_more_than_the_allowed_number_are_made_at_once(
    start: Start, tmp_path: Path, sound: bytes
) -> None:
    """Each program notes how many run beside it."""
    (tmp_path / "sound.wav").write_bytes(sound)
    (tmp_path / "now").mkdir()
    script = 'cd "$0"; : > now/$$; ls now | wc -l >> seen; sleep 0.2; rm now/$$; cat sound.wav'
    library = await start(program(script, tmp_path), concurrency=3)
    await asyncio.gather(*(library.prepare(f"text {number}", FEMALE) for number in range(12)))
    seen = [int(line) for line in (tmp_path / "seen").read_text().split()]
    assert len(seen) == 12
    assert 1 < max(seen) <= 3


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _data: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "header only": lambda data: data[:44],
    "zeros": lambda data: bytes(len(data)),
    "zeros behind the header": lambda data: data[:44] + bytes(len(data) - 44),
    "something else": lambda _data: b"<html></html>" * 100,
    "another rate": lambda data: data[:24] + (16000).to_bytes(4, "little") + data[28:],
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_file_is_made_anew(start: Start, damage: str) -> None:
    library = await start()
    prompt = await library.prepare("您好", FEMALE)
    good = prompt.path.read_bytes()
    prompt.path.write_bytes(DAMAGE[damage](good))
    again = await library.prepare("您好", FEMALE)
    assert again.path == prompt.path
    assert again.seconds == pytest.approx(prompt.seconds, abs=0.05)
    assert len(again.path.read_bytes()) == pytest.approx(len(good), abs=800)


async def test_a_vanished_file_is_made_anew(start: Start) -> None:
    library = await start()
    prompt = await library.prepare("您好", FEMALE)
    prompt.path.unlink()
    assert (await library.prepare("您好", FEMALE)).path.exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the prompt is empty"),
        (" \n", "the prompt is empty"),
        ("好" * 501, "the prompt has 501 characters"),
    ],
)
async def test_texts_that_are_refused(start: Start, folder: Path, text: str, why: str) -> None:
    with pytest.raises(TextRefused, match=why):
        await (await start()).prepare(text, FEMALE)
    assert files(folder) == []


async def test_the_longest_text_is_taken(start: Start) -> None:
    prompt = await (await start()).prepare("您的来电非常重要。" * 55 + "谢谢您", FEMALE)
    assert prompt.seconds > 100
    assert (await (await start(max_text_chars=4)).prepare("您好谢谢", FEMALE)).seconds > 0.5


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 1", "voice command: exit code 1"),
        ("echo hello", "voice command: this is not audio"),
        ('head -c 44 "$0"', "voice command: the audio is empty"),
        ('head -c 44 "$0"; head -c 20000 /dev/zero', "voice command: the audio is silent"),
    ],
)
async def test_a_failure_leaves_nothing_behind_and_is_not_remembered(
    start: Start, folder: Path, tmp_path: Path, sound: bytes, script: str, why: str
) -> None:
    (tmp_path / "sound.wav").write_bytes(sound)
    library = await start(
        program(
            f'if [ -e "$1" ]; then cat "$0"; else {script}; fi', tmp_path / "sound.wav", tmp_path / "well"
        )
    )
    for _ in range(2):
        with pytest.raises(VoiceFailed, match=why):
            await library.prepare("您好", FEMALE)
    assert files(folder) == []
    (tmp_path / "well").touch()
    assert (await library.prepare("您好", FEMALE)).seconds > 0.5


async def test_a_failure_reaches_all_who_wait(start: Start) -> None:
    library = await start(program("sleep 0.2; exit 7"))
    results = await asyncio.gather(
        *(library.prepare("您好", FEMALE) for _ in range(5)), return_exceptions=True
    )
    assert [str(result) for result in results] == ["voice command: exit code 7"] * 5


async def test_who_goes_away_does_not_take_the_prompt_from_the_others(
    start: Start, tmp_path: Path, sound: bytes
) -> None:
    (tmp_path / "sound.wav").write_bytes(sound)
    library = await start(program(WAITING, tmp_path))
    first, second = (asyncio.create_task(library.prepare("您好", FEMALE)) for _ in range(2))
    await written(tmp_path / "ran")
    first.cancel()
    await asyncio.wait([first])
    (tmp_path / "go").touch()
    assert (await second).seconds > 0.5
    assert first.cancelled()
    assert (tmp_path / "ran").read_text() == "ran\n"


async def test_a_folder_that_cannot_be_written_is_told(start: Start, folder: Path) -> None:
    library = await start()
    folder.rmdir()
    with pytest.raises(VoiceFailed, match="prompt folder: No such file or directory"):
        await library.prepare("您好", FEMALE)
    folder.mkdir()
    assert (await library.prepare("您好", FEMALE)).seconds > 0.5


async def test_close_ends_what_is_being_made(start: Start, folder: Path, tmp_path: Path) -> None:
    library = await start(program('echo $$ > "$0/pid"; exec sleep 60', tmp_path))
    asking = asyncio.create_task(library.prepare("您好", FEMALE))
    pid = int(await written(tmp_path / "pid"))
    await library.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not Path(f"/proc/{pid}").exists()
    assert files(folder) == []


# ---- purging


async def made(library: PromptLibrary, texts: list[str]) -> list[Prompt]:
    return [await library.prepare(text, FEMALE) for text in texts]


async def test_the_start_deletes_what_was_not_used_for_too_long(start: Start, folder: Path) -> None:
    old, new = await made(await start(), ["您好", "再见"])
    age(old.path, 8 * DAY)
    age(new.path, 6 * DAY)
    await start(keep_s=7 * DAY)
    assert files(folder) == [new.path.name]


async def test_use_keeps_a_file(start: Start) -> None:
    library = await start()
    (prompt,) = await made(library, ["您好"])
    age(prompt.path, 8 * DAY)
    await library.prepare("您好", FEMALE)
    await start(keep_s=7 * DAY)
    assert prompt.path.exists()


async def test_when_there_is_too_much_the_longest_unused_go(start: Start, folder: Path) -> None:
    prompts = await made(await start(), ["一", "二", "三", "四", "五"])
    for hours, prompt in zip((2, 5, 3, 6, 4), prompts, strict=True):
        age(prompt.path, hours * HOUR)
    sizes = {prompt.path.name: prompt.path.stat().st_size for prompt in prompts}
    await start(keep_bytes=sizes[prompts[0].path.name] + sizes[prompts[2].path.name] + 100)
    assert files(folder) == sorted([prompts[0].path.name, prompts[2].path.name])


async def test_what_was_used_within_the_hour_stays_whatever_the_limits(start: Start, folder: Path) -> None:
    playing, old = await made(await start(), ["您好", "再见"])
    age(playing.path, HOUR - 60)
    age(old.path, HOUR + 60)
    await start(keep_bytes=1, keep_s=1)
    assert files(folder) == [playing.path.name]


async def test_leftovers_of_a_crash_go_and_what_is_not_ours_stays(start: Start, folder: Path) -> None:
    folder.mkdir()
    (folder / "prompt-abc123.part").write_bytes(b"half")
    (folder / "prompt-def456.part").write_bytes(b"being written by another process")
    (folder / "welcome.wav").write_bytes(b"an owner's recording")
    for name in ("prompt-abc123.part", "welcome.wav"):
        age(folder / name, 400 * DAY)
    await start(keep_bytes=1)
    assert files(folder) == ["prompt-def456.part", "welcome.wav"]


async def test_a_long_run_purges_too(start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts with names and numbers in them never come again: the folder must not grow for ever."""
    monkeypatch.setattr("huibo.prompts.library._PURGE_EVERY", 5)
    library = await start(keep_bytes=1)
    for prompt in await made(library, ["一", "二", "三", "四"]):
        age(prompt.path, 2 * HOUR)
    await made(library, ["五"])
    assert len(files(folder)) == 1


async def test_files_are_whole_at_every_moment(start: Start, folder: Path) -> None:
    """Whoever looks while prompts are made sees finished files and temporary names, nothing else."""
    library = await start()
    making = asyncio.create_task(
        made(library, [f"您的订单{number}已经发货" for number in range(10000, 10020)])
    )
    seen = 0
    while not making.done():
        for path in folder.glob("*.wav"):
            with wave.open(str(path)) as file:
                assert file.getnframes() * 2 + 44 == path.stat().st_size
            seen += 1
        await asyncio.sleep(0)
    assert seen > 20
    assert len(files(folder)) == len(await making) == 20
