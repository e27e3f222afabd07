"""Recordings and secrets on a real database: who holds what, whose verdict counts, what belongs to whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from huibo.flow.state import CallState, Plan
from huibo.model import Call, Push
from huibo.recording.links import LINK_SECRET, check
from huibo.recording.urls import urls_of
from huibo.storage.calls import add_call, save_step
from huibo.storage.database import Database
from huibo.storage.outbox import add_pushes
from huibo.storage.recordings import (
    FAILED,
    PENDING,
    PURGED,
    READY,
    Held,
    Kept,
    Recording,
    add_recording,
    call_and_seq,
    due_recordings,
    expired,
    find_recording,
    hold_on,
    mark_failed,
    mark_purged,
    mark_ready,
    mark_retry,
    next_due,
    owners,
    ready_recordings,
)
from huibo.storage.secrets import find_secret, secret

NOW = 1_763_817_738_000
HOLD = 30_000
KEPT = Kept("2025/11/22/c1.mp3", "mp3", 12_345, "ab" * 32, 59_990)


def call_named(call_id: str, app_id: str = "1400000001") -> Call:
    return Call(
        call_id=call_id,
        app_id=app_id,
        request_id="r",
        caller="+8613800138000",
        callee="+8675586013388",
        caller_display="02131264133",
        callee_display="02131264133",
        caller_trunk="carrier",
        callee_trunk="carrier",
        max_talk_s=1800,
        accepted_at=NOW,
        record_url="https://hook.example/recording",
        record=True,
    )


async def owe(database: Database, call_id: str, at: int = NOW) -> None:
    call = call_named(call_id)
    plan = Plan(30, 60, 60, 1800)

    def work(connection: Any) -> None:
        add_call(connection, call, CallState(NOW, plan))
        save_step(connection, call, CallState(NOW, plan, ended_at=NOW), [], None, NOW)
        add_recording(connection, call_id, call.app_id, 60_000, at)

    await database.write(work)


async def due(database: Database, now: int = NOW, hold: int = HOLD, limit: int = 10) -> list[Held]:
    return await database.write(lambda connection: due_recordings(connection, now, now + hold, limit))


async def take(database: Database, call_id: str, now: int = NOW) -> Held:
    (held,) = [held for held in await due(database, now) if held.call_id == call_id]
    return held


async def row(database: Database, call_id: str) -> Recording:
    found = await database.read(lambda connection: find_recording(connection, call_id))
    assert found is not None
    return found


async def test_a_recording_is_owed_at_once(database: Database) -> None:
    await owe(database, "c1")
    assert await row(database, "c1") == Recording(
        *("c1", "1400000001", PENDING, 60_000, NOW, NOW, 0), *[None] * 8
    )
    assert await database.read(lambda connection: find_recording(connection, "c2")) is None


async def test_a_recording_shares_the_fate_of_the_step_that_owes_it(database: Database) -> None:
    def step(connection: Any) -> None:
        add_call(connection, call_named("c1"), CallState(NOW, Plan(30, 60, 60, 1800)))
        add_recording(connection, "c1", "1400000001", 1000, NOW)
        raise RuntimeError("the step failed")

    with pytest.raises(RuntimeError):
        await database.write(step)
    assert await due(database) == []


async def test_a_call_has_one_recording_and_a_recording_a_call(database: Database) -> None:
    await owe(database, "c1")
    for call_id in ("c1", "unknown"):
        with pytest.raises(IntegrityError):
            await database.write(
                lambda connection, call_id=call_id: add_recording(connection, call_id, "a", 1, NOW)
            )


async def test_what_is_due_is_taken_once_and_the_oldest_first(database: Database) -> None:
    for call_id, at in (("c1", NOW - 1), ("c2", NOW - 3), ("c3", NOW - 2), ("c4", NOW + 1)):
        await owe(database, call_id, at)
    first = await due(database, limit=2)
    assert {held.call_id for held in first} == {"c2", "c3"}
    assert first[0] == Held(first[0].call_id, "1400000001", 60_000, first[0].created_at, 0, NOW + HOLD)
    assert [held.call_id for held in await due(database)] == ["c1"]
    assert await due(database) == []
    assert await database.read(lambda connection: next_due(connection, NOW)) == NOW + 1
    assert [held.call_id for held in await due(database, NOW + 1)] == ["c4"]


async def test_many_who_ask_at_the_same_time_share(database: Database) -> None:
    for at in range(20):
        await owe(database, f"c{at}")
    shares = await asyncio.gather(*(due(database, limit=3) for _ in range(10)))
    taken = [held.call_id for share in shares for held in share]
    assert len(taken) == len(set(taken)) == 20


async def test_what_the_dead_held_falls_due_again(database: Database) -> None:
    await owe(database, "c1")
    held = await take(database, "c1")
    assert await due(database, NOW + HOLD - 1) == []
    assert await database.read(lambda connection: next_due(connection, NOW)) == NOW + HOLD
    again = await take(database, "c1", NOW + HOLD)
    assert again == held._replace(until=NOW + 2 * HOLD)


async def test_whoever_holds_on_keeps_it(database: Database) -> None:
    await owe(database, "c1")
    held = await take(database, "c1")
    longer = await database.write(lambda connection: hold_on(connection, held, NOW + 2 * HOLD))
    assert longer == held._replace(until=NOW + 2 * HOLD)
    assert await due(database, NOW + 2 * HOLD - 1) == []
    assert await database.write(lambda connection: hold_on(connection, held, NOW + 9 * HOLD)) is None


async def test_only_the_holders_verdict_counts(database: Database) -> None:
    await owe(database, "c1")
    late = await take(database, "c1")
    held = await take(database, "c1", NOW + HOLD)
    before = await row(database, "c1")
    for verdict in (
        lambda connection: mark_ready(connection, late, KEPT, NOW, NOW + 1),
        lambda connection: mark_retry(connection, late, "no", NOW, 1),
        lambda connection: mark_failed(connection, late, "no", NOW),
    ):
        assert not await database.write(verdict)
    assert await row(database, "c1") == before
    assert await database.write(lambda connection: mark_ready(connection, held, KEPT, NOW, NOW + 1))
    assert not await database.write(lambda connection: mark_failed(connection, held, "no", NOW))
    assert (await row(database, "c1")).state == READY


async def test_a_ready_recording(database: Database) -> None:
    await owe(database, "c1")
    held = await take(database, "c1")
    await database.write(lambda connection: mark_retry(connection, held, "too short", NOW, 1))
    held = await take(database, "c1")
    assert await database.write(lambda connection: mark_ready(connection, held, KEPT, NOW + 5, NOW + 500))
    ready = await row(database, "c1")
    assert (ready.state, ready.attempts, ready.reason) == (READY, 2, None)
    assert (ready.finished_at, ready.expires_at) == (NOW + 5, NOW + 500)
    assert (ready.key, ready.format, ready.bytes, ready.sha256, ready.duration_ms) == KEPT
    assert await due(database, NOW + 2**40) == []
    assert await database.read(lambda connection: next_due(connection, 0)) is None


async def test_a_retry_is_due_when_it_says(database: Database) -> None:
    await owe(database, "c1")
    held = await take(database, "c1")
    assert await database.write(lambda connection: mark_retry(connection, held, "disk full", NOW + 50, 0))
    assert await due(database, NOW + 49) == []
    waiting = await row(database, "c1")
    assert (waiting.state, waiting.attempts, waiting.reason) == (PENDING, 0, "disk full")
    assert (await take(database, "c1", NOW + 50)).attempts == 0


async def test_a_failed_recording(database: Database) -> None:
    await owe(database, "c1")
    held = await take(database, "c1")
    assert await database.write(lambda connection: mark_failed(connection, held, "empty audio", NOW + 5))
    failed = await row(database, "c1")
    assert (failed.state, failed.reason, failed.attempts, failed.finished_at) == (
        FAILED,
        "empty audio",
        1,
        NOW + 5,
    )
    assert await due(database, NOW + 2**40) == []


async def test_what_has_expired_is_found_until_it_is_purged(database: Database) -> None:
    for at, call_id in enumerate(("c1", "c2", "c3")):
        await owe(database, call_id)
        held = await take(database, call_id)
        kept, expires_at = KEPT._replace(key=f"k/{call_id}"), NOW + 300 - at
        await database.write(
            lambda connection, held=held, kept=kept, expires_at=expires_at: mark_ready(
                connection, held, kept, NOW, expires_at
            )
        )

    async def over(now: int, limit: int = 10) -> list[str]:
        found = await database.read(lambda connection: expired(connection, now, limit))
        return [one.call_id for one in found]

    assert await over(NOW + 297) == []
    assert await over(NOW + 299) == ["c3", "c2"]
    assert await over(NOW + 300, limit=2) == ["c3", "c2"]
    await database.write(lambda connection: mark_purged(connection, "c3"))
    assert await over(NOW + 300) == ["c2", "c1"]
    purged = await row(database, "c3")
    assert (purged.state, purged.key, purged.duration_ms) == (PURGED, None, KEPT.duration_ms)
    ready = await database.read(lambda connection: ready_recordings(connection, ["c1", "c3", "x"]))
    assert [one.call_id for one in ready] == ["c1"]


async def test_nothing_but_a_ready_recording_is_purged(database: Database) -> None:
    await owe(database, "c1")
    await database.write(lambda connection: mark_purged(connection, "c1"))
    assert (await row(database, "c1")).state == PENDING


async def test_whose_raw_files_are_still_needed(database: Database) -> None:
    await owe(database, "pending")
    await owe(database, "failed")
    held = {one.call_id: one for one in await due(database)}
    await database.write(lambda connection: mark_failed(connection, held["failed"], "no", NOW))
    live = call_named("live")
    await database.write(
        lambda connection: add_call(connection, live, CallState(NOW, Plan(30, 60, 60, 1800)))
    )
    asked = ["pending", "failed", "live", "unknown"]
    assert await database.read(lambda connection: owners(connection, asked)) == {"pending", "live"}


async def test_a_push_about_a_recording_is_numbered_above_all_others_of_its_call(database: Database) -> None:
    await owe(database, "c1")
    await owe(database, "c2")
    held = await take(database, "c1")
    found = await database.read(lambda connection: call_and_seq(connection, held))
    assert found == (call_named("c1"), 1)
    pushes = [
        Push("c1", "1400000001", "cdr", 13, "https://hook.example/", b"{}"),
        Push("c2", "1400000001", "cdr", 99, "https://hook.example/", b"{}"),
    ]
    await database.write(lambda connection: add_pushes(connection, pushes, NOW))
    found = await database.read(lambda connection: call_and_seq(connection, held))
    assert found is not None
    assert found[1] == 14
    stranger = held._replace(app_id="other")
    assert await database.read(lambda connection: call_and_seq(connection, stranger)) is None


async def test_links_are_given_for_what_can_be_fetched(database: Database) -> None:
    base = "https://call.example.com"
    await owe(database, "c1")
    await owe(database, "c2")
    held = {one.call_id: one for one in await due(database)}
    await database.write(lambda connection: mark_ready(connection, held["c1"], KEPT, NOW, NOW + 500))
    assert (
        await database.read(lambda connection: urls_of(connection, base, ["c1", "c2"])) == {}
    )  # no secret yet
    key = await database.write(lambda connection: secret(connection, LINK_SECRET))
    urls = await database.read(lambda connection: urls_of(connection, base, ["c1", "c2", "x"]))
    assert urls.keys() == {"c1"}
    token = urls["c1"].removeprefix(f"{base}/recordings/").removesuffix(".mp3")
    assert check(key, token, NOW + 499) == "c1"
    assert check(key, token, NOW + 500) is None


async def test_a_secret_is_made_once_and_kept(database: Database, database_url: str) -> None:
    assert await database.read(lambda connection: find_secret(connection, "a")) is None
    made = await database.write(lambda connection: secret(connection, "a"))
    assert len(made) == 32
    assert await database.write(lambda connection: secret(connection, "b")) != made
    assert await database.write(lambda connection: secret(connection, "a")) == made
    other = Database(database_url)
    assert await other.read(lambda connection: find_secret(connection, "a")) == made
    assert await other.write(lambda connection: secret(connection, "a")) == made
    await other.close()


async def test_a_secret_is_not_kept_when_the_transaction_is_not(database: Database) -> None:
    def work(connection: Any) -> None:
        secret(connection, "a")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await database.write(work)
    assert await database.read(lambda connection: find_secret(connection, "a")) is None
