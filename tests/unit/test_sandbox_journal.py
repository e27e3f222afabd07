"""The log is read as it grows: every line once, whole, in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from huibo.sandbox.journal import PhoneEvent, PhoneMoment, follow, parse, read


def line(event: str = "invited", call: str = "1.0", **detail: str | int) -> str:
    fields = {
        "at": "2026-11-22T12:49:53.539Z",
        "number": "13800138000",
        "from": "02131264133",
        "event": event,
        "call": call,
    }
    return json.dumps(fields | detail) + "\n"


async def following(events: AsyncIterator[PhoneEvent], count: int) -> list[str]:
    """The calls of the next events."""
    async with asyncio.timeout(5):
        return [(await anext(events)).call for _ in range(count)]


async def nothing_comes(events: AsyncIterator[PhoneEvent]) -> bool:
    coming = asyncio.ensure_future(anext(events))
    done, _ = await asyncio.wait([coming], timeout=0.3)
    coming.cancel()
    with suppress(asyncio.CancelledError, StopAsyncIteration):
        await coming
    return not done


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def test_a_line_becomes_an_event() -> None:
    assert parse(line()) == PhoneEvent(
        at=datetime(2026, 11, 22, 12, 49, 53, 539000, UTC),
        number="13800138000",
        caller="02131264133",
        event=PhoneMoment.INVITED,
        call="1.0",
    )
    assert parse(line("answered", heard="x.wav")).heard == "x.wav"
    assert parse(line("pressed", key="#")).key == "#"
    assert parse(line("refused", code=486)).code == 486
    assert parse(line("hung_up", by="phone")).by == "phone"


@pytest.mark.parametrize("wrong", ["", "{}", "nonsense", line("danced")])
def test_what_is_no_line_is_refused(wrong: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        parse(wrong)


def test_reading_what_there_is(log: Path) -> None:
    assert read(log) == []
    log.write_text(line(call="1") + line(call="2") + line(call="3")[:-1])
    assert [event.call for event in read(log)] == ["1", "2"]


async def test_following_yields_what_there_is_and_what_comes(log: Path) -> None:
    events = follow(log)
    append(log, line(call="1"))
    assert await following(events, 1) == ["1"]
    append(log, line(call="2") + line(call="3"))
    assert await following(events, 2) == ["2", "3"]


async def test_half_a_line_waits_for_its_other_half(log: Path) -> None:
    whole = line(call="1")
    append(log, whole[:40])
    assert await nothing_comes(follow(log))
    events = follow(log)
    waiting = asyncio.create_task(following(events, 1))
    append(log, whole[40:-1])
    await asyncio.wait([waiting], timeout=0.15)
    assert not waiting.done()
    append(log, whole[-1:])
    assert await waiting == ["1"]


async def test_following_from_the_end_begins_where_the_end_was_then(log: Path) -> None:
    append(log, line(call="old"))
    events = follow(log, from_end=True)
    append(log, line(call="new"))
    assert await following(events, 1) == ["new"]
