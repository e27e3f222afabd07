"""I8: in no second are more calls accepted than an app may make, and never more go on at once."""

from __future__ import annotations

from collections.abc import Iterator

from huibo.model import Leg
from tests.faults.invariants.excuses import PHONES_OUTLIVE, named, wrong_starts
from tests.faults.invariants.facts import Case, Facts, Violation

_SECOND_MS = 1000
_UNSURE_MS = 1000  # at the end of a call: who saw it first


def check(facts: Facts) -> Iterator[Violation]:
    for app_id, limits in facts.evidence.settings.get("limits", {}).items():
        cases = [case for case in facts.calls.values() if case.app_id == app_id]
        if per_second := limits.get("calls_per_second"):
            yield from _per_second(facts, app_id, cases, per_second)
        if at_once := limits.get("calls_at_once"):
            yield from _at_once(facts, app_id, cases, at_once)


def _per_second(facts: Facts, app_id: str, cases: list[Case], most: int) -> Iterator[Violation]:
    at = sorted(case.call.accepted_at for case in cases if case.call is not None)
    if not _clock_was_set(facts) and any(b - a < _SECOND_MS for a, b in zip(at, at[most:], strict=False)):
        yield Violation("I8", "", f"{app_id} has more than {most} calls in a second, by the database")
        return
    # By the customers: between its request and its answer each of these was accepted.
    within = [(case.sent_at, case.accepted.at) for case in cases if case.asked is not None and case.accepted]
    for begin, _ in within:
        count = sum(sent >= begin and answered < begin + _SECOND_MS for sent, answered in within)
        if count > most:
            yield Violation("I8", "", f"{app_id} got {count} calls in a second, by the answers")
            return


def _at_once(facts: Facts, app_id: str, cases: list[Case], most: int) -> Iterator[Violation]:
    stored = [
        (case.call.accepted_at, case.ended_at)
        for case in cases
        if case.call is not None and case.ended_at is not None
    ]
    if not _clock_was_set(facts) and (count := _most_at_once(stored)) > most:
        yield Violation("I8", "", f"{app_id} had {count} calls at once, by the database")
        return
    seen = [span for case in cases if (span := _seen(case)) is not None]
    if (count := _most_at_once(seen)) > most:
        yield Violation("I8", "", f"{app_id} had {count} calls at once, by the phones")


def _seen(case: Case) -> tuple[int, int] | None:
    """When a call was certainly going on: from its answer, or the caller's INVITE, to the end of its phones.

    Excused: what comes after the engine was lost from sight, when a call may be over before its phones are.
    """
    rings = [ring for leg in Leg for ring in case.rings[leg]]
    if not rings:
        return None
    begin = min([ring.invited_at for ring in rings] + ([case.accepted.at] if case.accepted else []))
    end = max(ring.last_at for ring in rings) - _UNSURE_MS
    lost = [
        fault.began_at for fault in named(case.evidence.faults, PHONES_OUTLIVE) if fault.ended_at >= begin
    ]
    end = min([end, *lost])
    return (begin, end) if end > begin else None


def _most_at_once(spans: list[tuple[int, int]]) -> int:
    """At one moment an end comes before a beginning."""
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def _clock_was_set(facts: Facts) -> bool:
    """Excused: then times of the database cannot be compared with each other."""
    return bool(wrong_starts(facts.evidence.faults))
