"""What is deleted when, and what is left alone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from recording_studio import Journal, Studio, call_named

from huibo.flow.state import CallState, Plan
from huibo.storage.calls import add_call
from huibo.storage.recordings import PENDING, PURGED, READY, Kept, due_recordings, mark_failed, mark_ready

pytest_plugins = ["recording_fixtures"]

DAY_S = 86_400


async def keep(studio: Studio, call_id: str, expires_in_ms: int) -> Path:
    """A ready recording; returns its file."""
    await studio.owe(call_id, 1000)
    made = studio.settings.folder / "made"
    made.parent.mkdir(exist_ok=True)
    made.write_bytes(b"sound")
    kept = Kept(f"2025/11/22/{call_id}.mp3", "mp3", 5, sha256(b"sound").hexdigest(), 1000)
    await studio.store.put(made, kept.key)
    now = studio.clock.now_ms()
    due = await studio.database.write(lambda connection: due_recordings(connection, now, now + 60_000, 999))
    held = next(held for held in due if held.call_id == call_id)
    await studio.database.write(
        lambda connection: mark_ready(connection, held, kept, now, now + expires_in_ms)
    )
    return studio.settings.folder / kept.key


def older(studio: Studio, call_id: str, days: float) -> None:
    at = time.time() - days * DAY_S
    for path in (studio.raw.said(call_id), studio.raw.heard(call_id)):
        os.utime(path, (at, at))


async def test_a_recording_whose_time_is_over_is_deleted_with_its_file(
    studio: Studio, diary: Journal
) -> None:
    over, kept = await keep(studio, "12-over", 0), await keep(studio, "12-kept", 60_000)
    await studio.retention.purge()
    assert (over.exists(), kept.exists()) == (False, True)
    row = await studio.row("12-over")
    assert (row.state, row.key, row.duration_ms) == (PURGED, None, 1000)
    assert (await studio.row("12-kept")).state == READY
    assert [entry["call"] for entry in diary.of("recording purged")] == ["12-over"]
    await studio.retention.purge()
    assert len(diary.of("recording purged")) == 1


async def test_more_than_one_batch_is_purged(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huibo.recording.retention._BATCH", 2)
    files = [await keep(studio, f"12-{at}", 0) for at in range(5)]
    await studio.retention.purge()
    assert not any(file.exists() for file in files)
    assert {(await studio.row(f"12-{at}")).state for at in range(5)} == {PURGED}


async def test_a_file_that_is_gone_already_does_not_stop_the_purge(studio: Studio, diary: Journal) -> None:
    (await keep(studio, "12-a", 0)).unlink()
    await studio.retention.purge()
    assert (await studio.row("12-a")).state == PURGED


async def test_a_store_that_fails_keeps_the_row_for_the_next_time(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await keep(studio, "12-a", 0)

    async def fail(_key: str) -> None:
        raise OSError("store out of reach")

    with monkeypatch.context() as broken:
        broken.setattr(studio.store, "delete", fail)
        with pytest.raises(OSError, match="out of reach"):
            await studio.retention.purge()
    assert (await studio.row("12-a")).state == READY
    await studio.retention.purge()
    assert not file.exists()


async def test_raw_files_go_a_day_after_nobody_needs_them_any_more(studio: Studio, diary: Journal) -> None:
    for call_id in ("12-unknown", "12-unknown-young", "12-pending", "12-live", "12-failed", "12-talked"):
        studio.sing(call_id, 0.1)
        older(studio, call_id, 1.01)
    studio.sing("12-unknown-young", 0.1)
    for call_id in ("12-failed", "12-pending"):
        await studio.owe(call_id, 1000)
    (failed, _) = await studio.database.write(lambda connection: due_recordings(connection, 2**60, 2**61, 9))
    assert failed.call_id == "12-failed"
    await studio.database.write(lambda connection: mark_failed(connection, failed, "too short", 0))
    call, state = call_named("12-live"), CallState(0, Plan(30, 60, 60, 1800))
    await studio.database.write(lambda connection: add_call(connection, call, state))
    await studio.retention.sweep()
    left = {name.rpartition("-")[0] for name in studio.raw_files()}
    assert left == {"12-unknown-young", "12-pending", "12-live"}
    assert len(studio.raw_files()) == 6
    assert (await studio.row("12-pending")).state == PENDING


@pytest.mark.parametrize("young", ["said", "heard"])
async def test_one_old_file_is_not_enough(studio: Studio, young: str) -> None:
    studio.sing("12-a", 0.1)
    older(studio, "12-a", 2)
    os.utime(studio.raw.folder / f"12-a-{young}.wav")
    await studio.retention.sweep()
    assert len(studio.raw_files()) == 2


async def test_other_peoples_files_are_left_alone(studio: Studio) -> None:
    stranger = studio.raw.folder / "notes.txt"
    stranger.write_text("mine")
    os.utime(stranger, (0, 0))
    await studio.retention.sweep()
    assert stranger.exists()


async def test_files_that_were_never_finished_go_after_a_day(studio: Studio) -> None:
    making = studio.settings.folder / ".making"
    making.mkdir(parents=True)
    for name, days in (("old.mp3", 1.01), ("young.mp3", 0.9)):
        (making / name).write_bytes(b"")
        os.utime(making / name, (time.time() - days * DAY_S,) * 2)
    await studio.retention.sweep()
    assert [path.name for path in making.iterdir()] == ["young.mp3"]


async def test_it_clears_away_at_once_and_every_hour(
    studio: Studio, diary: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huibo.recording.retention._EVERY_S", 0.05)
    first = await keep(studio, "12-a", 0)
    running = asyncio.create_task(studio.retention.run())
    try:
        await diary.heard("recording purged")
        assert not first.exists()
        await keep(studio, "12-b", 0)
        await diary.heard("recording purged", 2)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_trouble_does_not_end_it(
    set_up: Callable[..., Studio], diary: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huibo.recording.retention._EVERY_S", 0.05)
    studio = set_up()
    await keep(studio, "12-a", 0)
    read, broken = studio.database.read, True

    async def fail(work: Callable[..., object]) -> object:
        if broken:
            raise RuntimeError("no database")
        return await read(work)

    monkeypatch.setattr(studio.database, "read", fail)
    running = asyncio.create_task(studio.retention.run())
    try:
        await diary.heard("recordings not cleared away, trying again in an hour", 2)
        broken = False
        await diary.heard("recording purged")
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
