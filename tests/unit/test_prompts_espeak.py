"""espeak-ng's helper process: what happens when it dies, hangs, answers nonsense, or loses its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from huibo.prompts.audio import seconds_of, telephone
from huibo.prompts.espeak import EspeakVoice
from huibo.prompts.voice import Gender, VoiceFailed

ROOT = Path(__file__).parents[2]
LONG = "您的来电对我们非常重要。" * 2000  # some seconds of work
WORKER = "from huibo.prompts.espeak_worker import main; main()"


@pytest.fixture
async def voice() -> AsyncIterator[EspeakVoice]:
    voice = EspeakVoice(timeout_s=20)
    yield voice
    await voice.close()


async def length(voice: EspeakVoice, text: str, gender: Gender = Gender.FEMALE) -> float:
    seconds = seconds_of(telephone(await voice.say(text, gender)))
    assert seconds is not None
    return seconds


def cpu_ticks(pid: int) -> int:
    """User time that a process has had (proc(5))."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


async def at_work(pid: int) -> None:
    """Until the helper has worked for 0.1 s on what it was last given."""
    before = cpu_ticks(pid)
    while cpu_ticks(pid) < before + 10:
        await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(5):
        while not gone(pid):
            await asyncio.sleep(0.01)


async def test_the_helper_starts_on_first_use_and_is_kept(voice: EspeakVoice) -> None:
    assert voice.pid is None
    await length(voice, "您好")
    first = voice.pid
    await length(voice, "再见")
    assert voice.pid == first


async def test_close_ends_the_helper_and_it_may_be_asked_again(voice: EspeakVoice) -> None:
    await length(voice, "您好")
    first = voice.pid
    assert first is not None
    await voice.close()
    assert gone(first)
    assert voice.pid is None
    assert await length(voice, "您好") > 0.5


async def test_killed_while_it_works_one_text_fails_and_the_next_is_spoken(voice: EspeakVoice) -> None:
    usual = await length(voice, "您好")
    pid = voice.pid
    assert pid is not None
    failing = asyncio.create_task(voice.say(LONG, Gender.FEMALE))
    waiting = asyncio.create_task(length(voice, "您好"))  # already in the queue when it happens
    await at_work(pid)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(VoiceFailed, match="voice espeak: the helper process ended"):
        await failing
    assert await waiting == pytest.approx(usual, abs=0.05)
    assert voice.pid not in (pid, None)


async def test_killed_while_it_waits_nobody_notices(voice: EspeakVoice) -> None:
    await length(voice, "您好")
    assert voice.pid is not None
    os.kill(voice.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        while voice.pid is not None:
            await asyncio.sleep(0.01)
    assert await length(voice, "您好") > 0.5


async def test_a_hanging_helper_is_cut_off_in_time() -> None:
    voice = EspeakVoice(timeout_s=5.0)  # the helper's start counts, too
    await length(voice, "您好")
    pid = voice.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    began = asyncio.get_running_loop().time()
    with pytest.raises(VoiceFailed, match="voice espeak: no answer within 5 s"):
        await voice.say("您好", Gender.FEMALE)
    assert asyncio.get_running_loop().time() - began < 10
    assert gone(pid)
    assert await length(voice, "您好") > 0.5
    await voice.close()


async def test_a_text_that_takes_too_long_is_cut_off() -> None:
    voice = EspeakVoice(timeout_s=6.0)  # the helper's start counts, too
    await length(voice, "您好")
    with pytest.raises(VoiceFailed, match="no answer within 6 s"):
        await voice.say(LONG * 60, Gender.FEMALE)
    assert await length(voice, "您好") > 0.5
    await voice.close()


async def test_who_goes_away_in_the_middle_leaves_no_answer_to_the_next(voice: EspeakVoice) -> None:
    usual = await length(voice, "您好")
    assert voice.pid is not None
    leaving = asyncio.create_task(voice.say(LONG, Gender.FEMALE))
    await at_work(voice.pid)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await length(voice, "您好") == pytest.approx(usual, abs=0.05)


NONSENSE = {
    "noise": "head -c 5000 /dev/urandom",
    "text": "echo 'Segmentation fault (core dumped)'",
    "zeros": "head -c 100 /dev/zero",
    "an unknown kind of answer": r"printf '\000\000\000\005\007RIFF'",
    "no sound file": r"printf '\000\000\000\006\000hello'",
    "an answer cut short": r"printf '\000\000\377\377\000RIFF'",
    "an answer without end": r"printf '\377\377\377\377\000RIFF'; cat /dev/zero",
    "nothing": "exit 3",
    "silence at once": "exec <&- ; exit 0",
}


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_nonsense_fails_one_text_and_the_next_is_spoken(nonsense: str, tmp_path: Path) -> None:
    """A helper that answers nonsense the first time it runs, and is the real one from then on."""
    script = f'if [ -e "$0/ran" ]; then exec "$1" -c "$2"; fi; : > "$0/ran"; {NONSENSE[nonsense]}'
    voice = EspeakVoice(timeout_s=5, worker=("/bin/sh", "-c", script, str(tmp_path), sys.executable, WORKER))
    with pytest.raises(VoiceFailed, match="voice espeak: ") as failed:
        await voice.say("您好", Gender.FEMALE)
    assert "\n" not in str(failed.value)
    assert await length(voice, "您好") > 0.5
    await voice.close()


async def test_a_helper_that_cannot_start_is_told() -> None:
    voice = EspeakVoice(timeout_s=5, worker=("/nowhere/python",))
    with pytest.raises(VoiceFailed, match=r"voice espeak: .*No such file"):
        await voice.say("您好", Gender.FEMALE)
    await voice.close()


@pytest.mark.parametrize("package", ["espeakng_loader", "pypinyin"])
async def test_a_missing_package_is_named(package: str) -> None:
    without = f"import sys; sys.modules['{package}'] = None; {WORKER}"
    voice = EspeakVoice(timeout_s=5, worker=(sys.executable, "-c", without))
    for _ in range(2):
        with pytest.raises(VoiceFailed, match=f"espeak-ng cannot be used: .*{package}"):
            await voice.say("您好", Gender.FEMALE)
    await voice.close()


CHATTY = """
import os
from huibo.prompts import espeak_worker
answer = espeak_worker._answer
def chatty(*given):
    print("hello", flush=True)
    os.write(1, b"hello")
    return answer(*given)
espeak_worker._answer = chatty
espeak_worker.main()
"""


async def test_what_a_library_prints_does_not_get_between_the_answers() -> None:
    voice = EspeakVoice(timeout_s=5, worker=(sys.executable, "-c", CHATTY))
    assert await length(voice, "您好") > 0.5
    await voice.close()


UNASKED = """
import os, threading
from huibo.prompts import espeak_worker
answer, out = espeak_worker._answer, os.dup(1)
def and_more(*given):
    threading.Timer(0.1, os.write, (out, bytes(4))).start()
    return answer(*given)
espeak_worker._answer = and_more
espeak_worker.main()
"""


async def test_a_helper_that_speaks_unasked_is_replaced() -> None:
    """Else what it said would be taken for the answer to the next text."""
    voice = EspeakVoice(timeout_s=5, worker=(sys.executable, "-c", UNASKED))
    usual = await length(voice, "您好")
    async with asyncio.timeout(5):
        while voice.pid is not None:
            await asyncio.sleep(0.01)
    assert await length(voice, "您好") == pytest.approx(usual, abs=0.05)
    await voice.close()


@pytest.mark.parametrize("text", ["😀", "。", "\x00", "\ud800", " "])
async def test_nothing_to_say_is_told_and_costs_nothing(voice: EspeakVoice, text: str) -> None:
    await length(voice, "您好")
    pid = voice.pid
    with pytest.raises(VoiceFailed, match="voice espeak: nothing in the text can be spoken"):
        await voice.say(text, Gender.FEMALE)
    assert voice.pid == pid


@pytest.mark.parametrize(
    "text",
    ["\ud800您好", "您\x00好", "[[hello]]您好", "<speak>您好</speak>", "𠮷您好", "ひらがな您好", "a" * 3000],
)
async def test_strange_texts_are_spoken(voice: EspeakVoice, text: str) -> None:
    assert await length(voice, text) > 0.5


async def test_texts_asked_for_at_once_do_not_mix(voice: EspeakVoice) -> None:
    texts = ["您好", "您有一个来电，请按1接听", "Please press one", "12345"] * 5
    alone = {(text, gender): await length(voice, text, gender) for text in set(texts) for gender in Gender}
    asked = [(text, gender) for text in texts for gender in Gender]
    lengths = await asyncio.gather(*(length(voice, text, gender) for text, gender in asked))
    assert lengths == [pytest.approx(alone[one], abs=0.03) for one in asked]


PARENT = """
import asyncio, os, sys
from huibo.prompts.espeak import EspeakVoice
from huibo.prompts.voice import Gender
async def main():
    voice = EspeakVoice(timeout_s=60)
    await voice.say("您好", Gender.FEMALE)
    print(voice.pid, flush=True)
    if sys.argv[1] == "working":
        await voice.say("您的来电对我们非常重要。" * 20000, Gender.FEMALE)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("state", ["waiting", "working", "stopped"])
async def test_the_helper_ends_with_its_parent(state: str) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, state, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    if state == "working":
        await at_work(pid)
    if state == "stopped":
        os.kill(pid, signal.SIGSTOP)
    assert not gone(pid)
    parent.kill()
    await parent.wait()
    await until_gone(pid)


async def test_the_fingerprint_tells_what_sounds_different() -> None:
    slow, usual = (EspeakVoice(timeout_s=1, words_per_minute=speed) for speed in (120, 150))
    prints = {
        voice.fingerprint(text, gender)
        for voice in (slow, usual)
        for text in ("您好", "再见")
        for gender in Gender
    }
    assert len(prints) == 8
    assert usual.fingerprint("您好", Gender.MALE) == EspeakVoice(timeout_s=9).fingerprint("您好", Gender.MALE)
