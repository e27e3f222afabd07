"""From two raw files to one: real sound in, real sound out, and every way in which that can be impossible."""

from __future__ import annotations

import os
import resource
import stat
import struct
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from recording_studio import (
    CALLEE_HZ,
    CALLER_HZ,
    RATE,
    RINGING_HZ,
    Samples,
    assert_apart,
    reopen,
    silence,
    sound_of,
    tone,
    write_raw,
)

from huibo.recording.finish import _BLOCK_S, finish
from huibo.recording.job import Job, Made, Unfinished

FORMATS = {"mp3": "MP3", "opus": "OGG", "wav": "WAV"}


def job(folder: Path, talk_ms: int, form: str = "wav", **changes: object) -> Job:
    paths = (folder / name for name in ("x-said.wav", "x-heard.wav", f"x.{form}"))
    return replace(Job(*paths, talk_ms, form), **changes)  # type: ignore[arg-type]


def recorded(folder: Path, talk_s: float, ringing_s: float = 1.5) -> None:
    """Both raw files: the callee is rung first, then both parties make their sound all the time."""
    write_raw(folder / "x-said.wav", silence(ringing_s), tone(CALLER_HZ, talk_s))
    write_raw(folder / "x-heard.wav", tone(RINGING_HZ, ringing_s), tone(CALLEE_HZ, talk_s))


def refusal(asked: Job) -> tuple[str, bool]:
    """Why it cannot be finished; nothing must be left."""
    with pytest.raises(Unfinished) as caught:
        finish(asked)
    assert not os.path.lexists(asked.into)
    return caught.value.reason, caught.value.blameless


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("talk_s", [2, 60])
def test_the_caller_is_left_the_callee_right_and_only_the_conversation_is_there(
    tmp_path: Path, form: str, talk_s: int
) -> None:
    recorded(tmp_path, talk_s)
    asked = job(tmp_path, talk_s * 1000, form)
    made = finish(asked)
    content = asked.into.read_bytes()
    assert made == Made(len(content), sha256(content).hexdigest(), talk_s * 1000, ())
    sound = sound_of(asked.into)
    assert (sound.format, sound.rate) == (FORMATS[form], RATE)
    assert abs(sound.seconds - talk_s) < 0.1
    assert_apart(sound)
    assert stat.S_IMODE(asked.into.stat().st_mode) == 0o600


def test_not_a_sample_is_lost_or_moved_where_blocks_meet(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    said, heard = (random.integers(-30_000, 30_000, 70 * RATE, np.int16) for _ in range(2))
    write_raw(tmp_path / "x-said.wav", silence(1), said)
    write_raw(tmp_path / "x-heard.wav", silence(1), heard)
    asked = job(tmp_path, 70_000)
    finish(asked)
    made = sound_of(asked.into).samples * 32768
    assert np.array_equal(made[:, 0], said)
    assert np.array_equal(made[:, 1], heard)


@pytest.mark.parametrize("form", ["mp3", "opus"])
def test_blocks_join_without_a_click(tmp_path: Path, form: str) -> None:
    """A tone that a seam interrupts is not that pure any more."""
    recorded(tmp_path, _BLOCK_S + 4)
    asked = job(tmp_path, (_BLOCK_S + 4) * 1000, form)
    finish(asked)
    whole = sound_of(asked.into)
    assert_apart(replace(whole, samples=whole.samples[(_BLOCK_S - 1) * RATE : (_BLOCK_S + 1) * RATE]))


def test_a_long_call_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    """The samples of twenty minutes alone would be 77 MB as they are worked with."""
    minute = tone(CALLER_HZ, 60)
    for name in ("x-said.wav", "x-heard.wav"):
        write_raw(tmp_path / name, *[minute] * 20)
    asked = job(tmp_path, 1_200_000)
    code = (
        "import re, sys; from pathlib import Path\n"
        "from huibo.recording.finish import finish; from huibo.recording.job import Job\n"
        "said, heard, into = map(Path, sys.argv[1:])\n"
        "print(finish(Job(said, heard, into, 1_200_000, 'wav')).duration_ms)\n"
        "print(re.search('VmHWM:[ \\t]*([0-9]+)', Path('/proc/self/status').read_text())[1])\n"
    )
    argv = [sys.executable, "-c", code, *map(str, (asked.said, asked.heard, asked.into))]
    duration_ms, kilobytes = subprocess.run(argv, capture_output=True, check=True).stdout.split()
    assert int(duration_ms) == 1_200_000
    assert int(kilobytes) < 75_000


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("quiet", ["caller", "callee", "both"])
def test_a_party_who_says_nothing_is_no_fault_but_is_told(tmp_path: Path, form: str, quiet: str) -> None:
    recorded(tmp_path, 3)
    sides = {"caller": ["said"], "callee": ["heard"], "both": ["said", "heard"]}[quiet]
    for side in sides:
        write_raw(tmp_path / f"x-{side}.wav", silence(4.5))
    asked = job(tmp_path, 3000, form)
    made = finish(asked)
    assert made.silent == (("caller", "callee") if quiet == "both" else (quiet,))
    assert_apart(sound_of(asked.into), caller="said" not in sides, callee="heard" not in sides)


def test_a_few_frames_less_of_one_party_shift_nothing(tmp_path: Path) -> None:
    recorded(tmp_path, 3)
    write_raw(tmp_path / "x-heard.wav", tone(RINGING_HZ, 1.5), tone(CALLEE_HZ, 2.9))
    asked = job(tmp_path, 3000)
    assert finish(asked).duration_ms == 3000
    samples = sound_of(asked.into).samples
    assert abs(samples[: round(2.8 * RATE), 1]).max() > 0.2
    assert abs(samples[round(2.91 * RATE) :, 1]).max() == 0


def test_talk_that_began_a_little_before_the_files_is_taken_as_it_is(tmp_path: Path) -> None:
    recorded(tmp_path, 3, ringing_s=0)
    assert finish(job(tmp_path, 3400)).duration_ms == 3000


@pytest.mark.parametrize("side", ["said", "heard"])
def test_a_missing_file(tmp_path: Path, side: str) -> None:
    recorded(tmp_path, 3)
    (tmp_path / f"x-{side}.wav").unlink()
    assert refusal(job(tmp_path, 3000)) == (f"raw file missing: x-{side}.wav", False)


def test_no_folder_at_all(tmp_path: Path) -> None:
    assert refusal(job(tmp_path / "gone", 3000)) == ("raw file missing: x-said.wav", False)


def test_a_file_that_cannot_be_read_is_the_places_fault(tmp_path: Path) -> None:
    recorded(tmp_path, 3)
    (tmp_path / "x-said.wav").unlink()
    (tmp_path / "x-said.wav").mkdir()
    assert refusal(job(tmp_path, 3000)) == ("raw file not readable: Is a directory", True)


@pytest.mark.parametrize("side", ["said", "heard"])
def test_no_sound_at_all(tmp_path: Path, side: str) -> None:
    recorded(tmp_path, 0.4)
    write_raw(tmp_path / f"x-{side}.wav", silence(0))
    assert refusal(job(tmp_path, 400)) == ("empty audio", False)


def test_a_conversation_of_no_time(tmp_path: Path) -> None:
    recorded(tmp_path, 1)
    assert refusal(job(tmp_path, 0)) == ("empty audio", False)


def test_files_shorter_than_the_talk(tmp_path: Path) -> None:
    recorded(tmp_path, 50, ringing_s=0)
    assert refusal(job(tmp_path, 60_000)) == ("too short: 50.0 s of 60.0 s", False)
    assert finish(job(tmp_path, 51_400)).duration_ms == 50_000  # half a second and a fiftieth is let pass


def test_files_of_different_lengths(tmp_path: Path) -> None:
    recorded(tmp_path, 5)
    write_raw(tmp_path / "x-heard.wav", tone(CALLEE_HZ, 8))
    assert refusal(job(tmp_path, 5000)) == ("lengths differ: caller 6.5 s, callee 8.0 s", False)


def header(**changes: int) -> bytes:
    """A WAV header, right but for the changes."""
    fields = {"riff": 16036, "size": 16, "coding": 1, "channels": 1, "rate": RATE, "bits": 16, "data": 16000}
    field = fields | changes
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", field["riff"], b"WAVE", b"fmt ", field["size"], field["coding"], field["channels"]),
        *(field["rate"], 2 * field["rate"], 2, field["bits"], b"data", field["data"]),
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "x-said.wav has no header"),
        (header()[:43], "x-said.wav has no header"),
        (b"\0" * 20000, "x-said.wav is not a WAV file"),
        (b"OggS" + header()[4:] + b"\0" * 16000, "x-said.wav is not a WAV file"),
        (header(size=18) + b"\0" * 16000, "x-said.wav is not a WAV file"),
        (header(channels=2) + b"\0" * 16000, "x-said.wav is not mono with 16 bits"),
        (header(bits=8) + b"\0" * 16000, "x-said.wav is not mono with 16 bits"),
        (header(coding=7) + b"\0" * 16000, "x-said.wav is not mono with 16 bits"),
        (header(rate=0) + b"\0" * 16000, "x-said.wav is not mono with 16 bits"),
        (header(rate=16000) + b"\0" * 16000, "two sampling rates"),
    ],
)
def test_a_file_that_is_none_of_the_engines(tmp_path: Path, content: bytes, reason: str) -> None:
    recorded(tmp_path, 1)
    (tmp_path / "x-said.wav").write_bytes(content)
    assert refusal(job(tmp_path, 1000)) == (f"raw file damaged: {reason}", False)


def test_a_file_that_the_engine_still_writes_is_waited_for(tmp_path: Path) -> None:
    recorded(tmp_path, 4)
    closed = reopen(tmp_path / "x-heard.wav", lose=20_000)
    assert refusal(job(tmp_path, 4000)) == ("raw file not closed", False)
    (tmp_path / "x-heard.wav").write_bytes(closed)
    assert finish(job(tmp_path, 4000)).duration_ms == 4000


def test_nothing_but_a_header_is_not_taken_for_an_empty_file_too_soon(tmp_path: Path) -> None:
    recorded(tmp_path, 1)
    reopen(tmp_path / "x-said.wav", lose=2 * 20_000)
    assert (tmp_path / "x-said.wav").stat().st_size == 44
    assert refusal(job(tmp_path, 1000))[0] == "raw file not closed"
    assert finish(job(tmp_path, 1000, last=True)).silent == ("caller",)


def test_files_that_nobody_will_close_are_taken_as_far_as_they_go(tmp_path: Path) -> None:
    """Asterisk was killed in the middle of a word: up to two seconds were still in its memory."""
    recorded(tmp_path, 100)
    for side in ("said", "heard"):
        reopen(tmp_path / f"x-{side}.wav", lose=30_001)  # not even on the border of a sample
    asked = job(tmp_path, 100_000, last=True)
    assert 98_000 < finish(asked).duration_ms < 100_000
    write_raw(tmp_path / "x-said.wav", tone(CALLER_HZ, 10))
    write_raw(tmp_path / "x-heard.wav", tone(CALLEE_HZ, 10))
    made = finish(asked)
    assert (made.duration_ms, made.lacks) == (10_000, "too short: 10.0 s of 100.0 s")


def test_the_last_attempt_takes_what_one_party_left(tmp_path: Path) -> None:
    recorded(tmp_path, 5, ringing_s=0)
    write_raw(tmp_path / "x-heard.wav", tone(CALLEE_HZ, 0.3))
    assert refusal(job(tmp_path, 5000))[0] == "lengths differ: caller 5.0 s, callee 0.3 s"
    made = finish(job(tmp_path, 5000, last=True))
    assert (made.duration_ms, made.lacks) == (5000, "lengths differ: caller 5.0 s, callee 0.3 s")
    write_raw(tmp_path / "x-heard.wav", silence(0))
    assert finish(job(tmp_path, 5000, last=True)).silent == ("callee",)


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_nobodys_fault(tmp_path: Path, form: str) -> None:
    """/dev/full answers every write with ENOSPC, as a full file system does."""
    recorded(tmp_path, 5)
    asked = job(tmp_path, 5000, form)
    asked.into.symlink_to("/dev/full")
    assert refusal(asked) == ("disk full", True)
    assert finish(asked).duration_ms == 5000


@pytest.mark.parametrize("form", FORMATS)
def test_a_disk_that_fills_up_in_the_middle(tmp_path: Path, form: str) -> None:
    """The limit lets the first kilobytes through, then fails in the middle of a write."""
    recorded(tmp_path, 20)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        assert refusal(job(tmp_path, 20_000, form)) == ("not written: File too large", True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_is_gone_is_the_places_fault(tmp_path: Path) -> None:
    recorded(tmp_path, 1)
    asked = job(tmp_path, 1000, into=tmp_path / "gone" / "x.wav")
    assert refusal(asked) == ("not written: No such file or directory", True)


def test_speech_stays_small(tmp_path: Path) -> None:
    """Two people who take turns, a week of recordings of them, and a disk."""
    turns: list[tuple[Samples, Samples]] = []
    for turn in range(10):
        voice = sum(tone(180 * overtone, 2, 0.1).astype(int) for overtone in range(1, 9))
        speech: Samples = voice.astype("int16")  # type: ignore[union-attr]
        turns.append((speech, silence(2)) if turn % 2 else (silence(2), speech))
    write_raw(tmp_path / "x-said.wav", *(said for said, _ in turns))
    write_raw(tmp_path / "x-heard.wav", *(heard for _, heard in turns))
    sizes = {form: finish(job(tmp_path, 20_000, form)).bytes * 8 / 20_000 for form in FORMATS}
    assert sizes["mp3"] < 65  # kbit/s
    assert sizes["opus"] < 65
    assert sizes["wav"] == pytest.approx(256, rel=0.01)
