"""Recordings from owed to ready, with real helper processes, whatever dies or fills up on the way."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from recording_studio import (
    BASE_URL,
    CALLEE_HZ,
    CALLER_HZ,
    HOOK,
    PATIENCE_S,
    Journal,
    Studio,
    assert_apart,
    reopen,
    silence,
    sound_of,
    tone,
    write_raw,
)

from huibo.model import App, AppSettings, Push
from huibo.recording import attempt
from huibo.recording.helpers import Helpers
from huibo.recording.job import Job, Unfinished
from huibo.recording.links import LINK_SECRET, check
from huibo.storage.catalog import add_app
from huibo.storage.outbox import add_pushes
from huibo.storage.recordings import FAILED, PENDING, READY, due_recordings
from huibo.storage.secrets import find_secret

pytest_plugins = ["recording_fixtures"]

DAY_MS = 86_400_000
SetUp = Callable[..., Studio]


async def until(happened: Callable[[], bool]) -> None:
    """For what no event tells: the state of files and processes."""
    async with asyncio.timeout(PATIENCE_S):
        while not happened():
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("form", ["mp3", "opus", "wav"])
async def test_a_recording_is_finished_pushed_and_its_raw_files_are_gone(
    set_up: SetUp, diary: Journal, form: str
) -> None:
    studio = set_up(format=form)
    finisher = studio.open()
    studio.sing("12-a", 2)
    before = studio.clock.now_ms()
    await studio.owe("12-a", 2000)
    finisher.wake()
    await diary.heard("recording ready")
    row = await studio.row("12-a")
    content = studio.file_of(row).read_bytes()
    assert (row.state, row.attempts, row.reason, row.format) == (READY, 1, None, form)
    assert (row.bytes, row.sha256) == (len(content), sha256(content).hexdigest())
    assert row.duration_ms == 2000
    assert row.expires_at is not None
    assert row.finished_at is not None
    assert before <= row.finished_at == row.expires_at - 7 * DAY_MS
    assert_apart(sound_of(studio.file_of(row)))
    (push,) = await studio.pushed()
    assert (push["url"], push["seq"], push["state"], studio.woken) == (HOOK, 1, "pending", 1)
    url = urlsplit(push["said"]["recordUrl"])
    assert f"{url.scheme}://{url.netloc}" == BASE_URL
    token = re.fullmatch(rf"/recordings/([A-Za-z0-9_-]+)\.{form}", url.path)
    assert token
    secret = await studio.database.read(lambda connection: find_secret(connection, LINK_SECRET))
    assert secret is not None
    assert check(secret, token[1], row.expires_at - 1) == "12-a"
    assert check(secret, token[1], row.expires_at) is None
    await until(lambda: studio.raw_files() == [])
    assert studio.making() == []


async def test_what_is_logged_names_the_call_and_gives_nothing_away(studio: Studio, diary: Journal) -> None:
    studio.sing("12-a", 1)
    write_raw(studio.raw.heard("12-a"), silence(1.5))
    await studio.owe("12-a", 1000)
    studio.open()
    (entry,) = await diary.heard("recording ready")
    assert entry["call"] == "12-a"
    assert entry["silent"] == ["callee"]
    said = str(diary.entries)
    assert "13800138000" not in said
    assert "recordings/" not in said


async def test_the_push_comes_after_all_others_of_its_call(studio: Studio, diary: Journal) -> None:
    studio.sing("12-a", 1)
    await studio.owe("12-a", 1000, cdr_url="https://hook.example/cdr")
    earlier = Push("12-a", "1400000001", "cdr", 14, "https://hook.example/cdr", b"{}")
    await studio.database.write(lambda connection: add_pushes(connection, [earlier], 0))
    studio.open()
    await diary.heard("recording ready")
    assert [push["seq"] for push in await studio.pushed()] == [15]


async def test_nobody_is_pushed_who_named_no_url(studio: Studio, diary: Journal) -> None:
    studio.sing("12-a", 1)
    await studio.owe("12-a", 1000, record_url=None)
    studio.open()
    await diary.heard("recording ready")
    assert (await studio.row("12-a")).state == READY
    assert await studio.pushed() == []


async def test_an_app_may_keep_its_recordings_longer(studio: Studio, diary: Journal) -> None:
    app = App("1400000001", "x", settings=AppSettings(keep_days=90))
    await studio.database.write(lambda connection: add_app(connection, app, 0))
    studio.sing("12-a", 1)
    await studio.owe("12-a", 1000)
    studio.open()
    await diary.heard("recording ready")
    row = await studio.row("12-a")
    assert row.expires_at is not None
    assert row.finished_at is not None
    assert row.expires_at - row.finished_at == 90 * DAY_MS


async def test_a_file_that_is_not_there_yet_is_waited_for(set_up: SetUp, diary: Journal) -> None:
    studio = set_up(retry_s=[0.2] * 50)
    await studio.owe("12-a", 1000)
    studio.open()
    (entry, *_) = await diary.heard("recording not finished")
    assert entry["reason"] == "raw file missing: 12-a-said.wav"
    studio.sing("12-a", 1)
    await diary.heard("recording ready")
    assert (await studio.row("12-a")).attempts > 1


async def test_a_file_that_is_still_written_is_waited_for(set_up: SetUp, diary: Journal) -> None:
    studio = set_up(retry_s=[0.2] * 50)
    studio.sing("12-a", 3)
    closed = reopen(studio.raw.heard("12-a"), lose=30_000)
    await studio.owe("12-a", 3000)
    studio.open()
    (entry, *_) = await diary.heard("recording not finished")
    assert entry["reason"] == "raw file not closed"
    studio.raw.heard("12-a").write_bytes(closed)
    await diary.heard("recording ready")
    assert (await studio.row("12-a")).duration_ms == 3000


async def test_a_file_that_is_never_closed_is_taken_in_the_end(studio: Studio, diary: Journal) -> None:
    studio.sing("12-a", 3)
    for path in (studio.raw.said("12-a"), studio.raw.heard("12-a")):
        reopen(path, lose=4000)
    await studio.owe("12-a", 3000)
    studio.open()
    await diary.heard("recording ready")
    row = await studio.row("12-a")
    assert (row.attempts, row.duration_ms) == (4, 3000)  # half a second of ringing was before it
    assert len(diary.of("recording not finished")) == 3


async def test_what_cannot_be_finished_fails_with_a_reason_and_is_not_pushed(
    studio: Studio, diary: Journal
) -> None:
    raw = studio.raw
    spoilt: dict[str, tuple[Callable[[], object], str]] = {
        "12-a": (lambda: raw.remove("12-a"), "raw file missing: 12-a-said.wav"),
        "12-b": (
            lambda: [write_raw(file("12-b"), silence(0)) for file in (raw.said, raw.heard)],
            "empty audio",
        ),
        "12-e": (
            lambda: raw.said("12-e").write_bytes(b"\0" * 9000),
            "raw file damaged: 12-e-said.wav is not a WAV file",
        ),
    }
    for call_id, (spoil, _) in spoilt.items():
        studio.sing(call_id, 2)
        spoil()
        await studio.owe(call_id, 2000)
    left = studio.raw_files()
    studio.open()
    failed = {entry["call"]: entry for entry in await diary.heard("recording failed", len(spoilt))}
    for call_id, (_, reason) in spoilt.items():
        assert (failed[call_id]["level"], failed[call_id]["reason"]) == ("error", reason)
        row = await studio.row(call_id)
        assert (row.state, row.reason, row.attempts, row.key) == (FAILED, reason, 4, None)
        assert row.finished_at is not None
    assert await studio.pushed() == []
    assert studio.raw_files() == left  # an operator may want to look


async def test_what_is_incomplete_is_delivered_in_the_end_with_what_it_lacks(
    studio: Studio, diary: Journal
) -> None:
    studio.sing("12-a", 0.5)
    await studio.owe("12-a", 2000)
    studio.open()
    await diary.heard("recording incomplete")
    row = await studio.row("12-a")
    assert (row.state, row.reason, row.attempts) == (READY, "too short: 1.0 s of 2.0 s", 4)
    assert len(await studio.pushed()) == 1
    assert studio.raw_files() == []


async def test_a_failure_keeps_nobody_else_waiting(studio: Studio, diary: Journal) -> None:
    for at in range(6):
        await studio.owe(f"12-lost-{at}", 1000)
    studio.sing("12-a", 1)
    await studio.owe("12-a", 1000)
    studio.open()
    await diary.heard("recording ready")
    assert len(await diary.heard("recording failed", 6)) == 6


async def test_a_full_disk_is_waited_for(
    studio: Studio, diary: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt's file is /dev/full, which answers as a full file system does."""
    monkeypatch.setattr(attempt, "token_hex", lambda _bytes: "x")
    monkeypatch.setattr(attempt, "_BLAMELESS_WAIT_MS", (100, 900_000))
    making = studio.settings.folder / ".making"
    making.mkdir(parents=True)
    (making / "12-a-x.wav").symlink_to("/dev/full")
    studio.sing("12-a", 2)
    await studio.owe("12-a", 2000)
    studio.open()
    (entry,) = await diary.heard("recording not finished")
    assert entry["reason"] == "disk full"
    assert len(studio.raw_files()) == 2
    await diary.heard("recording ready")
    row = await studio.row("12-a")
    assert (row.state, row.attempts, row.reason) == (READY, 1, None)  # the disk's failures do not count
    assert_apart(sound_of(studio.file_of(row)))
    assert Path("/dev/full").exists()


async def test_a_disk_that_fills_up_while_a_helper_writes(
    studio: Studio, diary: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_BLAMELESS_WAIT_MS", (100, 900_000))
    studio.sing("12-a", 1)
    await studio.owe("12-a", 1000)
    finisher = studio.open()
    await diary.heard("recording ready")
    (helper,) = studio.means.helpers.pids
    limit = resource.prlimit(helper, resource.RLIMIT_FSIZE)
    resource.prlimit(helper, resource.RLIMIT_FSIZE, (10_000, limit[1]))
    studio.sing("12-b", 4)
    await studio.owe("12-b", 4000)
    finisher.wake()
    (entry, *_) = await diary.heard("recording not finished", 5)  # more often than anything else is tried
    assert entry["reason"] == "not written: File too large"
    assert (await studio.row("12-b")).state == PENDING
    assert helper in studio.means.helpers.pids
    resource.prlimit(helper, resource.RLIMIT_FSIZE, limit)
    await diary.heard("recording ready", 2)
    assert_apart(sound_of(studio.file_of(await studio.row("12-b"))))


async def test_a_store_that_is_full_is_waited_for(
    studio: Studio, diary: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the year cannot be made: a file lies where it belongs."""
    monkeypatch.setattr(attempt, "_BLAMELESS_WAIT_MS", (100, 900_000))
    in_the_way = studio.settings.folder / str(datetime.now(UTC).year)
    studio.settings.folder.mkdir()
    in_the_way.write_bytes(b"")
    studio.sing("12-a", 1)
    await studio.owe("12-a", 1000)
    studio.open()
    (entry, *_) = await diary.heard("recording not finished", 2)
    assert entry["reason"] == "not written: File exists"
    in_the_way.unlink()
    await diary.heard("recording ready")


async def test_after_a_day_even_a_full_disk_is_the_end(
    studio: Studio, diary: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "token_hex", lambda _bytes: "x")
    making = studio.settings.folder / ".making"
    making.mkdir(parents=True)
    for call_id, age in (("12-a", DAY_MS), ("12-b", DAY_MS - 60_000)):
        (making / f"{call_id}-x.wav").symlink_to("/dev/full")
        studio.sing(call_id, 1)
        await studio.owe(call_id, 1000, at=studio.clock.now_ms() - age)
    studio.open()
    (failed,) = await diary.heard("recording failed")
    (waiting,) = await diary.heard("recording not finished")
    assert (failed["call"], failed["reason"]) == ("12-a", "disk full")
    assert (waiting["call"], waiting["retry_in_s"]) == ("12-b", 900)
    assert (await studio.row("12-a")).reason == "disk full"


async def test_a_helper_that_is_killed_while_it_works_is_replaced(set_up: SetUp, diary: Journal) -> None:
    studio = set_up(format="mp3")
    studio.sing("12-a", 90)
    await studio.owe("12-a", 90_000)
    studio.open()
    await until(lambda: any(path.stat().st_size for path in studio.making()))
    (helper,) = studio.means.helpers.pids
    os.kill(helper, signal.SIGKILL)
    (entry,) = await diary.heard("recording not finished")
    assert entry["reason"] == "helper process died (signal 9)"
    await diary.heard("recording ready")
    row = await studio.row("12-a")
    assert (row.attempts, row.duration_ms) == (2, 90_000)
    assert_apart(sound_of(studio.file_of(row)))
    assert helper not in studio.means.helpers.pids
    assert studio.making() == []
    assert len(await studio.pushed()) == 1


async def test_a_helper_that_hangs_is_ended_in_time(set_up: SetUp, diary: Journal) -> None:
    studio = set_up(time_limit_s=1, concurrency=1)
    studio.sing("12-a", 1)
    await studio.owe("12-a", 1000)
    finisher = studio.open()
    await diary.heard("recording ready")
    (helper,) = studio.means.helpers.pids
    os.kill(helper, signal.SIGSTOP)
    studio.sing("12-b", 1)
    await studio.owe("12-b", 1000)
    finisher.wake()
    (entry,) = await diary.heard("recording not finished")
    assert entry["reason"] == "helper process took more than 1 s"
    await diary.heard("recording ready", 2)
    assert not is_alive(helper)


async def test_a_recording_that_kills_every_helper_fails(set_up: SetUp, diary: Journal) -> None:
    studio = set_up(format="mp3", retry_s=[0.01])
    studio.sing("12-a", 120)
    await studio.owe("12-a", 120_000)
    studio.open()
    for count in (1, 2):
        await until(lambda: any(path.stat().st_size for path in studio.making()))
        (helper,) = studio.means.helpers.pids
        os.kill(helper, signal.SIGKILL)
        event = "recording not finished" if count == 1 else "recording failed"
        (entry,) = await diary.heard(event)
        assert entry["reason"] == "helper process died (signal 9)"
    assert (await studio.row("12-a")).state == FAILED


async def test_what_was_under_way_when_the_server_stopped_is_finished_by_the_next(
    set_up: SetUp, diary: Journal
) -> None:
    studio = set_up(format="mp3", hold_s=0.5)
    studio.sing("12-a", 60)
    await studio.owe("12-a", 60_000)
    studio.open()
    await until(lambda: any(path.stat().st_size for path in studio.making()))
    helpers = studio.means.helpers.pids
    await studio.stop()
    assert not any(map(is_alive, helpers))
    assert studio.making() == []
    assert (await studio.row("12-a")).state == PENDING
    following = set_up(format="mp3", hold_s=0.5)
    following.open()
    await diary.heard("recording ready")
    row = await following.row("12-a")
    assert (row.state, row.attempts) == (READY, 1)
    assert len(await following.pushed()) == 1


SERVER = """
import asyncio, sys
from pathlib import Path
from recording_studio import Studio

async def main():
    studio = Studio(Path(sys.argv[1]), sys.argv[2], hold_s=0.5, format="mp3", concurrency=1)
    studio.open()
    while not any(path.stat().st_size for path in studio.making()):
        await asyncio.sleep(0.01)
    print(*studio.means.helpers.pids, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_killed_server_leaves_no_process_and_no_recording_behind(
    set_up: SetUp, diary: Journal, tmp_path: Path
) -> None:
    studio = set_up(format="mp3")
    studio.sing("12-a", 60)
    await studio.owe("12-a", 60_000)
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVER, str(tmp_path), studio.url),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    assert server.stdout is not None
    helper = int(await server.stdout.readline())
    assert is_alive(helper)
    server.kill()
    await server.wait()
    studio.open()
    await diary.heard("recording ready")  # after the dead one's hold
    assert (await studio.row("12-a")).attempts == 1
    assert_apart(sound_of(studio.file_of(await studio.row("12-a"))))
    assert len(await studio.pushed()) == 1
    await until(lambda: not is_alive(helper))


async def test_two_finishers_share_the_work_and_do_none_of_it_twice(studio: Studio, diary: Journal) -> None:
    calls = [f"12-{at}" for at in range(12)]
    for call_id in calls:
        studio.sing(call_id, 1)
        await studio.owe(call_id, 1000)
    finishers = [studio.open(), studio.open()]
    for finisher in finishers:
        finisher.wake()
    ready = await diary.heard("recording ready", len(calls))
    assert sorted(entry["call"] for entry in ready) == sorted(calls)
    assert {entry["event"] for entry in diary.entries} == {"recording ready"}
    assert sorted(push["call_id"] for push in await studio.pushed()) == sorted(calls)
    assert {(await studio.row(call_id)).attempts for call_id in calls} == {1}


async def test_a_recording_is_held_for_as_long_as_it_takes(set_up: SetUp, diary: Journal) -> None:
    """It takes many times as long as a hold lasts, and another finisher is waiting for it."""
    studio = set_up(format="mp3", hold_s=0.15)
    studio.sing("12-a", 120)
    await studio.owe("12-a", 120_000)
    studio.open()
    await until(lambda: bool(studio.making()))
    studio.open(hold_s=0.15)
    await diary.heard("recording ready")
    assert {entry["event"] for entry in diary.entries} == {"recording ready"}
    assert len(await studio.pushed()) == 1


async def test_who_was_asleep_for_too_long_does_not_speak_any_more(set_up: SetUp, diary: Journal) -> None:
    """Another has taken the recording meanwhile; its verdict counts, and its file stays."""
    studio = set_up(format="mp3", hold_s=30)
    studio.sing("12-a", 60)
    await studio.owe("12-a", 60_000)
    studio.open()
    await until(lambda: bool(studio.making()))
    later = studio.clock.now_ms() + 60_000
    (other,) = await studio.database.write(
        lambda connection: due_recordings(connection, later, later + 60_000, 1)
    )
    await diary.heard("recording fell to another process")
    row = await studio.row("12-a")
    assert (row.state, row.next_at) == (PENDING, other.until)
    assert not list(studio.settings.folder.glob("2*"))
    assert len(studio.raw_files()) == 2
    assert await studio.pushed() == []


async def test_no_more_than_allowed_are_at_work_at_once(set_up: SetUp, diary: Journal) -> None:
    studio = set_up(concurrency=1)
    for at in range(4):
        studio.sing(f"12-{at}", 1)
        await studio.owe(f"12-{at}", 1000)
    studio.open()
    await diary.heard("recording ready", 4)
    assert len(studio.means.helpers.pids) == 1  # and one helper does them all


async def test_a_database_out_of_reach_is_waited_for(
    studio: Studio, diary: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.sing("12-a", 1)
    await studio.owe("12-a", 1000)
    write, broken = studio.database.write, True

    async def fail(work: Callable[..., object]) -> object:
        if broken:
            raise RuntimeError("disk I/O error\nSELECT secret")
        return await write(work)

    monkeypatch.setattr(studio.database, "write", fail)
    finisher = studio.open()
    (entry, *_) = await diary.heard("recordings out of reach, trying again")
    assert "SELECT" not in str(entry)
    broken = False
    finisher.wake()
    await diary.heard("recording ready")


async def test_a_raw_folder_that_cannot_be_made_ends_nothing(
    set_up: SetUp, diary: Journal, tmp_path: Path
) -> None:
    studio = set_up()
    studio.raw.folder.rmdir()
    studio.raw.folder.write_bytes(b"")
    studio.open()
    await diary.heard("no folder for raw recordings")


async def test_the_raw_folder_is_made_for_its_user_alone(studio: Studio, diary: Journal) -> None:
    studio.raw.folder.rmdir()
    await studio.owe("12-a", 1000)
    studio.open()
    await diary.heard("recording failed")
    assert studio.raw.folder.stat().st_mode & 0o777 == 0o700


def job_in(folder: Path, seconds: float = 1) -> Job:
    write_raw(folder / "said.wav", tone(CALLER_HZ, seconds))
    write_raw(folder / "heard.wav", tone(CALLEE_HZ, seconds))
    return Job(folder / "said.wav", folder / "heard.wav", folder / "made.wav", round(seconds * 1000), "wav")


async def test_idle_helpers_leave_and_one_that_died_idle_is_not_asked(tmp_path: Path) -> None:
    helpers = Helpers(idle_s=0.3)
    job = job_in(tmp_path)
    await helpers.finish(job, 10)
    (first,) = helpers.pids
    os.kill(first, signal.SIGKILL)
    await until(lambda: not helpers.pids)
    assert (await helpers.finish(job, 10)).duration_ms == 1000
    (second,) = helpers.pids
    await until(lambda: not is_alive(second))
    assert helpers.pids == set()
    await helpers.close()


async def test_a_helper_is_polite_and_deaf_to_the_terminal(tmp_path: Path) -> None:
    helpers = Helpers()
    job = job_in(tmp_path)
    await helpers.finish(job, 10)
    (pid,) = helpers.pids
    assert os.getpriority(os.PRIO_PROCESS, pid) == 10
    assert os.getpgid(pid) != os.getpgid(0)
    os.kill(pid, signal.SIGINT)
    await helpers.finish(job, 10)
    assert helpers.pids == {pid}
    await helpers.close()
    assert not is_alive(pid)


async def test_a_job_that_is_given_up_ends_its_helper(tmp_path: Path) -> None:
    helpers = Helpers()
    job = job_in(tmp_path)
    await helpers.finish(job, 10)
    (pid,) = helpers.pids
    os.kill(pid, signal.SIGSTOP)
    task = asyncio.create_task(helpers.finish(job, 10))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert not is_alive(pid)
    assert helpers.pids == set()


async def test_what_a_helper_cannot_do_at_all_is_its_answer(tmp_path: Path) -> None:
    helpers = Helpers()
    job = job_in(tmp_path)
    with pytest.raises(Unfinished, match="KeyError: 'flac'"):
        await helpers.finish(Job(job.said, job.heard, job.into, 1000, "flac"), 10)
    assert (await helpers.finish(job, 10)).duration_ms == 1000
    await helpers.close()
