"""What a call costs: prices by the minute, billed in intervals, both legs together.

Pure arithmetic in integers. Money is in 1/1000 fen (1 yuan = 100 000); a call is rounded up once, at the end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

PER_YUAN = 100_000


@dataclass(frozen=True, slots=True)
class Rate:
    """What a leg to numbers that begin with `prefix` costs. `prefix` as of `numbers.pattern`, "" for all."""

    prefix: str
    per_minute: Annotated[int, Field(ge=0)]
    first_s: Annotated[int, Field(ge=1, le=3600)] = 60  # billed at least, in whole seconds
    next_s: Annotated[int, Field(ge=1, le=3600)] = 60  # and then in steps of these
    setup: Annotated[int, Field(ge=0)] = 0  # on top, for each answered leg


@dataclass(frozen=True, slots=True)
class Budget:
    """What a call's legs cost, and what is held for it; `hold` None: nothing bounds it (postpaid)."""

    caller: Rate
    callee: Rate
    hold: int | None = None


def cost(budget: Budget, caller_ms: int, callee_ms: int) -> int:
    """The price of a conversation in which the legs were answered for so long."""
    return -(-(_sixtieths(budget.caller, caller_ms) + _sixtieths(budget.callee, callee_ms)) // 60)


def affordable_s(budget: Budget, money: int, most_s: int, lead_ms: int = 0) -> int:
    """The longest talk, up to `most_s` whole seconds, that `money` pays for; 0 when none is.

    `lead_ms`: how long the caller's leg had been answered when the callee's was.
    """
    return _most(most_s, lambda talk_s: cost(budget, lead_ms + talk_s * 1000, talk_s * 1000) <= money)


def affordable_lead_s(budget: Budget, money: int, most_s: int) -> int:
    """How long, up to `most_s` whole seconds, the caller may wait for the callee and still pay for a word."""
    return _most(most_s, lambda lead_s: cost(budget, lead_s * 1000 + 1000, 1000) <= money)


def _most(most_s: int, paid: Callable[[int], bool]) -> int:
    """The largest number from 0 to `most_s` that is paid for; the price never falls with the time."""
    if paid(most_s):  # as nearly always
        return most_s
    return bisect_right(range(1, most_s + 1), False, key=lambda seconds: not paid(seconds))


def _sixtieths(rate: Rate, answered_ms: int) -> int:
    """The price of one leg in sixtieths of the unit, exactly."""
    over_ms = max(0, answered_ms - rate.first_s * 1000)
    billed_s = rate.first_s + -(-over_ms // (rate.next_s * 1000)) * rate.next_s
    return rate.setup * 60 + rate.per_minute * billed_s
