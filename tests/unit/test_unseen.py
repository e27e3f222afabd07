"""What nobody saw: ends that are found out later, plays and keys while nobody was there."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from huibo.engine.events import LegEarlyMedia, LegEnded, PlayEnded
from huibo.flow.live import known_until
from huibo.flow.machine import RELEASE_S, deadlines
from huibo.flow.state import (
    AskPlay,
    Cancel,
    DialCallee,
    DialExpired,
    EngineGone,
    GuardTalk,
    HangUp,
    Play,
    PlayMissed,
    Resumed,
    ShortenPath,
    StartRingback,
    StopRingback,
    Tick,
)
from huibo.model import CallResult, EndReason, Leg
from huibo.storage import cells
from huibo.storage.cells import Cell
from huibo.storage.database import Database
from huibo.storage.tables import cells as table
from tests.unit.test_machine import MenuStory, Story

A, B = Leg.CALLER, Leg.CALLEE


def talking() -> Story:
    story = Story().start()
    story.answered(A)
    story.answered(B)
    return story


def vanish(story: Story, leg: Leg, known_until: int) -> None:
    story.leg(LegEnded, leg, why=EndReason.LOST, known_until=known_until)


@pytest.mark.parametrize(
    ("heard_at", "lived_at", "engine_began_at", "expected"),
    [
        (70_000, 50_000, 90_000, 70_000),
        (None, 50_000, 10_000, 50_000),  # the engine is older than the call: that says nothing
        (None, 50_000, 90_000, 50_000),
        (None, 50_000, 40_000, 40_000),
        (None, None, 40_000, 40_000),
        (None, None, 10_000, None),
    ],
)
def test_until_when_a_leg_was_there_for_certain(
    heard_at: int | None, lived_at: int | None, engine_began_at: int | None, expected: int | None
) -> None:
    assert known_until(20_000, heard_at, lived_at, engine_began_at) == expected


@pytest.mark.parametrize("code", [None, 487, 480])
def test_the_end_of_a_leg_that_was_asked_to_go_proves_no_invite(code: int | None) -> None:
    story = Story().start()
    story.take(Cancel(story.now))
    story.after(20).leg(LegEnded, A, sip_code=code)
    assert story.cdr.caller.invited_at is None
    assert story.told == ["a failed 487"]


def test_nobody_is_rung_when_storing_the_dial_took_too_long() -> None:
    story = Story().start()
    story.after(45_000).take(DialExpired(story.now))
    assert story.cdr.caller.reason is EndReason.EXPIRED
    assert story.cdr.caller.invited_at is None
    assert story.told == ["a failed"]


def test_what_the_engine_may_not_have_heard_is_said_again() -> None:
    story = talking()
    left = story.after(60_000).take(Resumed(story.now))
    assert left == [StopRingback(), GuardTalk(1800 - 60 + 2), ShortenPath()]
    assert Story().start().take(Resumed(story.now)) == []
    story = Story().start()
    story.answered(A)
    story.invited_ringing(B)
    assert story.take(Resumed(story.now)) == [StartRingback()]
    story.leg(LegEarlyMedia, B)
    assert story.take(Resumed(story.now)) == []


def test_the_engine_dies_and_the_talk_was_over_when_it_was_heard_of_last() -> None:
    story = talking()
    answered = story.now
    story.after(40_000).take(EngineGone(story.now, answered + 9_000))
    cdr = story.cdr
    assert (cdr.caller.reason, cdr.callee.reason) == (EndReason.LOST, EndReason.LOST)
    assert cdr.ended_at == cdr.caller.ended_at == cdr.callee.ended_at == answered + 9_000
    assert cdr.talk_s == 9
    assert story.told[-2:] == ["a hung_up", "b hung_up"]


@pytest.mark.parametrize("first", Leg)
def test_both_legs_are_found_gone(first: Leg) -> None:
    story = talking()
    known_until = story.now + 9_000
    story.after(40_000)
    for leg in (first, first.other):
        vanish(story, leg, known_until)
    assert (story.cdr.caller.reason, story.cdr.callee.reason) == (EndReason.LOST, EndReason.LOST)
    assert (story.cdr.talk_s, story.cdr.ended_at) == (9, known_until)


@pytest.mark.parametrize("gone", Leg)
def test_one_leg_is_found_gone_and_the_silence_of_the_other_is_not_charged(gone: Leg) -> None:
    story = talking()
    known_until = story.now + 9_000
    vanish(story.after(40_000), gone, known_until)
    assert story.commands[-1] == HangUp(gone.other)
    assert deadlines(story.state) == [story.now + RELEASE_S * 1000], "it has its time from now on"
    story.after(5).leg(LegEnded, gone.other)
    other = story.cdr.caller if gone is B else story.cdr.callee
    assert (other.reason, other.ended_at) == (EndReason.RELEASED, story.now)
    assert (story.cdr.talk_s, story.cdr.ended_at) == (9, known_until)


def test_an_end_is_never_put_before_what_was_seen() -> None:
    story = talking()
    story.after(5_000).take(EngineGone(story.now, 0))
    assert story.cdr.ended_at == story.cdr.callee.answered_at
    assert story.cdr.result is CallResult.TALKED
    assert (story.cdr.talk_s, story.cdr.charge) == (0, 0)


def test_a_phone_that_rang_and_vanished_is_told_of_as_before() -> None:
    story = Story().start()
    story.answered(A)
    story.invited_ringing(B)
    for leg in Leg:
        vanish(story, leg, story.now)
    assert story.told[-2:] == ["a hung_up", "b failed 487"]
    assert story.cdr.result is CallResult.UNKNOWN


def test_a_prompt_that_goes_on_is_left_alone() -> None:
    story = MenuStory()
    story.played()
    assert story.take(Resumed(story.now)) == [AskPlay(2)]
    assert story.key("1")[-2] == DialCallee("t", 60, 1862)


def test_a_prompt_that_ended_unheard_is_said_again_and_counts_as_none() -> None:
    story = MenuStory()
    story.played()
    story.take(Resumed(story.now))
    assert story.take(PlayMissed(story.now, 2)) == [Play("/p", 3)]
    assert story.take(PlayMissed(story.now, 2)) == []
    assert story.leg(PlayEnded, A, turn=2) == []
    assert story.state.menu is not None
    assert story.state.menu.replays == 0


def test_a_key_while_nobody_was_there_can_be_pressed_again() -> None:
    story = MenuStory()
    story.played()
    story.played()
    assert story.take(Resumed(story.after(60_000).now)) == [Play("/p", 3)]
    assert story.take(Tick(story.now)) == []


def test_nothing_is_said_to_a_caller_who_is_connected_or_leaves() -> None:
    story = MenuStory()
    story.played()
    story.key("1")
    assert story.take(Resumed(story.now)) == [StartRingback()]  # that is all he hears
    story = MenuStory()
    story.played()
    story.key("3")
    assert story.take(Resumed(story.now)) == []
    assert Story().start().take(Resumed(story.now)) == []


async def test_when_a_cell_lived_last_is_known_to_its_next_process(tmp_path: Any) -> None:
    database = Database(f"sqlite:///{tmp_path}/huibo.sqlite3")
    table.metadata.create_all(database.engine)
    assert await database.read(lambda connection: cells.seen_at(connection, "main")) is None
    row = {"name": "main", "base_url": "", "version": "", "engine_ready": True, "live_calls": 0}
    await database.write(
        lambda connection: connection.execute(insert(table), row | {"started_at": 5, "seen_at": 7})
    )
    assert await database.read(lambda connection: cells.seen_at(connection, "main")) == 7
    await database.write(lambda connection: cells.drain(connection, "main", True))
    await database.write(lambda connection: cells.beat(connection, Cell("main", "", "", True, 1)))
    assert await database.read(lambda connection: cells.is_draining(connection, "main"))
    await database.close()
