"""I10: nobody talks longer than agreed, and no caller is kept longer than a call may last."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from huibo.flow.state import CallState
from huibo.model import Leg
from tests.faults.invariants.excuses import CARRIER_STOPPED, ENGINE_KILLED, ENGINE_STOPPED, NO_WORD, named
from tests.faults.invariants.facts import Case, Facts, Ring, Violation

_LATE_MS = 6000
_GUARD_S = 2  # the engine's own limits come this much later
_NO_ANSWER_S = 16  # of a carrier: then another may be tried


def check(facts: Facts) -> Iterator[Violation]:
    default_min = facts.evidence.settings.get("default_talk_min", 30)
    for case in facts.calls.values():
        if case.asked is None or case.state is None:
            continue
        talk_ms = int(case.asked.body.get("maxAllowTime") or default_min) * 60_000
        callee = case.answered_ring(Leg.CALLEE)
        if callee is not None and callee.answered_at is not None:
            known_at = _known_at(facts, callee.answered_at)
            yield from _both(facts, case, known_at + talk_ms, "of the agreed time")
        if (caller := case.answered_ring(Leg.CALLER)) is not None:
            limit = caller.invited_at + _longest_ms(case, case.state, talk_ms)
            yield from _phone(facts, case, caller, limit, "that a call may last at all")


def _known_at(facts: Facts, answered_at: int) -> int:
    """From when the time counts: an answer that could not be told is counted from when it could."""
    away = named(facts.evidence.faults, NO_WORD)
    return max([answered_at, *(one.ended_at for one in away if one.began_at <= answered_at <= one.ended_at)])


def _both(facts: Facts, case: Case, limit: int, what: str) -> Iterator[Violation]:
    for leg in Leg:
        if (ring := case.answered_ring(leg)) is not None:
            yield from _phone(facts, case, ring, limit, what)


def _phone(facts: Facts, case: Case, ring: Ring, limit: int, what: str) -> Iterator[Violation]:
    """One phone is down by then.

    Excused: an engine that was killed while the phone was up tells it nothing; one that is stopped, or whose
    carrier is, does it when it is let go on.
    """
    assert ring.answered_at is not None
    until = ring.ended_at or facts.until
    faults = case.evidence.faults
    if any(
        ring.answered_at <= kill.ended_at and kill.began_at <= until for kill in named(faults, ENGINE_KILLED)
    ):
        return
    for stop in named(faults, (*ENGINE_STOPPED, *CARRIER_STOPPED)):
        if stop.began_at <= limit + _LATE_MS <= stop.ended_at + _LATE_MS:
            limit = max(limit, stop.ended_at)
    over_ms = until - limit - case.evidence.allowed_late_ms
    if over_ms > _LATE_MS:
        end = "ended" if ring.ended_at is not None else "is still up"
        yield case.broken("I10", f"phone {ring.number} {end} {over_ms / 1000:.1f} s after the end {what}")


def _longest_ms(case: Case, state: CallState, talk_ms: int) -> int:
    """What the engine is told when it dials the caller: ringing, menu, other trunks, ringing, talk."""
    assert case.asked is not None
    plan = state.plan
    menu_s = 0
    if (asked := case.asked.body.get("preCallerHandle")) and state.menu is not None:
        prompts, repeats = state.menu.prompts, int(json.loads(asked).get("repeatTimes") or 3)
        once_s = prompts.prompt_s + plan.key_wait_s
        menu_s = math.ceil(prompts.notice_s + once_s * (1 + repeats))
    ring_s = plan.caller_ring_s + plan.callee_ring_s
    other_trunks_s = _NO_ANSWER_S * (len(plan.caller_route) + len(plan.callee_route))
    return talk_ms + (ring_s + menu_s + other_trunks_s + _GUARD_S) * 1000
