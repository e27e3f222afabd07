"""Reads and follows the carrier's log of what its phones did.

Never writes to it and never yields half a line.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

_POLL_S = 0.05


class PhoneMoment(StrEnum):
    """What a phone of the sandbox can report."""

    INVITED = "invited"  # the INVITE came in
    RINGING = "ringing"  # 180 sent
    EARLY_MEDIA = "early_media"  # 183 sent, the announcement plays
    ANSWERED = "answered"  # 200 sent
    PRESSED = "pressed"  # a key was pressed and let go
    HUNG_UP = "hung_up"  # the end of a call that was not refused; its recording is complete
    REFUSED = "refused"  # the end of a call by a final SIP response


@dataclass(frozen=True, slots=True)
class PhoneEvent:
    """One line of the log. `call` tells calls to the same number apart; `at` is in UTC.

    `heard`: file name in the carrier's `heard/` (answered); `key` (pressed); `by` (hung_up): "network" is the
    other side, before an answer too; `code`: the SIP response (refused).
    """

    at: datetime
    number: str
    caller: str
    event: PhoneMoment
    call: str
    heard: str | None = None
    key: str | None = None
    by: Literal["phone", "network"] | None = None
    code: int | None = None


def parse(line: str | bytes) -> PhoneEvent:
    """One line of the log. Raises ValueError or KeyError for what is none."""
    fields = json.loads(line)
    return PhoneEvent(
        at=datetime.fromisoformat(fields["at"]),
        number=fields["number"],
        caller=fields["from"],
        event=PhoneMoment(fields["event"]),
        call=fields["call"],
        heard=fields.get("heard"),
        key=fields.get("key"),
        by=fields.get("by"),
        code=fields.get("code"),
    )


def read(path: Path) -> list[PhoneEvent]:
    """All events so far. No file: none."""
    return _Tail(path).new()


def follow(path: Path, *, from_end: bool = False) -> AsyncIterator[PhoneEvent]:
    """All events so far (`from_end`: none of them) and then each as it comes, for ever.

    Where the end is, is decided by this call, not by the first step of the iteration.
    """
    tail = _Tail(path)
    if from_end:
        tail.new()
    return _follow(tail)


async def _follow(tail: _Tail) -> AsyncIterator[PhoneEvent]:
    while True:
        for event in tail.new():
            yield event
        await asyncio.sleep(_POLL_S)


class _Tail:
    """A place in the log, always at the beginning of a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[PhoneEvent]:
        """The whole lines since the last time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                grown = file.read()
        except FileNotFoundError:
            return []
        whole = grown[: grown.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [parse(line) for line in whole.splitlines()]
