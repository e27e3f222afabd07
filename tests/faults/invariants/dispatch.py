"""I9: an accepted call is dialled in time or not at all."""

from __future__ import annotations

from collections.abc import Iterator

from huibo.model import Leg
from tests.faults.invariants.excuses import CARRIER_STOPPED, named
from tests.faults.invariants.facts import SLACK_MS, Case, Facts, Ring, Violation

_WAKES_MS = 5000  # a carrier that is let go on works off what has come to it


def check(facts: Facts) -> Iterator[Violation]:
    longest_ms = facts.evidence.settings["dispatch_deadline_s"] * 1000 + SLACK_MS
    longest_ms += facts.evidence.allowed_late_ms
    for case in facts.calls.values():
        first = next(iter(case.rings[Leg.CALLER]), None)
        if first is None:
            if (
                case.cdr is not None
                and case.cdr.caller.answered_at is None
                and case.cdr.caller.reason is None
            ):
                yield case.broken("I9", "never dialled, and the CDR does not say that it failed")
            continue
        late_ms = first.invited_at - _accepted_at(case)
        if late_ms > longest_ms and not _lay_with_carrier(case, first):
            yield case.broken("I9", f"the caller was invited {late_ms / 1000:.1f} s after the request")
        yield from _after_the_end(case)


def _after_the_end(case: Case) -> Iterator[Violation]:
    """Nobody is dialled for a call that is over."""
    if case.ended_at is None or not case.clock_is_right:
        return
    for leg in Leg:
        for ring in case.rings[leg]:
            late_ms = ring.invited_at - case.ended_at - SLACK_MS - case.evidence.allowed_late_ms
            if late_ms > 0 and not _lay_with_carrier(case, ring):
                yield case.broken("I9", f"the {leg.name.lower()} was invited after the call had ended")


def _accepted_at(case: Case) -> int:
    """The latest moment that the request may have been accepted at.

    A request is sent again until it is answered, so it is not its first sending that counts, but what huibo
    says, within what the customer knows.
    """
    known = case.accepted.at if case.accepted is not None else None
    if case.call is not None and case.clock_is_right:
        told = max(case.sent_at, case.call.accepted_at)
        return told if known is None else min(told, known)
    return case.sent_at if known is None else known


def _lay_with_carrier(case: Case, ring: Ring) -> bool:
    """Excused: the INVITE was sent in time to a carrier that was stopped, and looked at when it went on."""
    stops = named(case.evidence.faults, CARRIER_STOPPED)
    return any(stop.began_at <= ring.invited_at <= stop.ended_at + _WAKES_MS for stop in stops)
