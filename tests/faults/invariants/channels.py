"""I4: no channel or bridge of ours outlives its call by more than 60 s, and none is there without a call."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.faults.invariants.excuses import NO_WORD, named, shared_ms
from tests.faults.invariants.facts import Case, Facts, Violation

_MOST_MS = 60_000
_OURS = re.compile(r"(12-\d{6}-[0-9a-f]{32})(?:-[ab])?")  # Asterisk has names of its own for its own


def check(facts: Facts) -> Iterator[Violation]:
    told: set[str] = set()
    for look in facts.evidence.held:
        for name in (*look.channels, *look.bridges):
            found = _OURS.fullmatch(name)
            if found is None or name in told:
                continue
            case = facts.calls.get(found[1])
            if case is None:
                yield Violation("I4", found[1], f"{look.engine} holds {name} of a call that does not exist")
                told.add(name)
            elif (late_ms := _late_ms(case, look.at)) > _MOST_MS + facts.evidence.allowed_late_ms:
                yield case.broken("I4", f"{look.engine} holds {name} {late_ms / 1000:.0f} s after the call")
                told.add(name)


def _late_ms(case: Case, at: int) -> int:
    """How long after its call something was held. A call that is not over is no matter of this rule.

    By the phones' times where huibo's clock was set. Excused: the time in which the control plane was not
    there or had no way to tell the engine anything.
    """
    if case.ended_at is None:
        return 0
    end = _told_end(case, case.ended_at) if case.clock_is_right else _phones_end(case)
    away_ms = sum(shared_ms(fault, end, at) for fault in named(case.evidence.faults, NO_WORD))
    return at - end - away_ms


def _told_end(case: Case, ended_at: int) -> int:
    """When the last leg was gone: a call of which one was lost is over before that."""
    legs = (case.cdr.caller, case.cdr.callee) if case.cdr is not None else ()
    return max([ended_at, *(leg.ended_at for leg in legs if leg.ended_at is not None)])


def _phones_end(case: Case) -> int:
    rings = [ring for of_leg in case.rings.values() for ring in of_leg]
    return max((ring.last_at for ring in rings), default=case.sent_at)
