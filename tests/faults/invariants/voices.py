"""I11: two who talk hear each other, by what each one's phone has recorded itself.

Asks nothing of huibo: neither its times nor its recordings. No absence of the control plane, of its
database or of its connection to the engine is an excuse: the audio needs none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huibo.model import Leg
from huibo.sandbox.journal import PhoneMoment
from huibo.sandbox.phones import Answer, phone_of
from huibo.sandbox.tones import hears, tone_of
from tests.faults.invariants.excuses import ENGINE_KILLED, SILENT, named, unshared_ms
from tests.faults.invariants.facts import Case, Facts, Ring, Violation, share_heard

_SHORTEST_MS = 4000  # a shorter talk tells little
_EDGES_MS = 500  # of a talk hide a tone


def check(facts: Facts) -> Iterator[Violation]:
    if not facts.evidence.heard:
        return
    for case in facts.calls.values():
        caller, callee = (case.answered_ring(leg) for leg in Leg)
        if caller is None or callee is None or not _told_apart(caller, callee):
            continue
        begin, end = _both_up(case, caller, callee)
        if end - begin >= _SHORTEST_MS:
            audible_ms = unshared_ms(named(facts.evidence.faults, SILENT), begin, end)
            for leg, own, other in ((Leg.CALLER, caller, callee), (Leg.CALLEE, callee, caller)):
                wanted_s = (audible_ms - _EDGES_MS) * share_heard(other.number) / 1000
                yield from _hears(case, leg, own, other, wanted_s, (end - begin) / 1000)


def _told_apart(caller: Ring, callee: Ring) -> bool:
    """Whether both phones speak, in two voices."""
    silent = any(Answer(silent=True) in phone_of(ring.number).steps for ring in (caller, callee))
    return not silent and tone_of(caller.number) != tone_of(callee.number)


def _both_up(case: Case, caller: Ring, callee: Ring) -> tuple[int, int]:
    """From when until when both phones were up, as far as that is judged.

    Excused: all that comes after the death of an engine, of which phones hear nothing. A phone that was never
    told of the end has not closed its recording: that is I10's matter.
    """
    assert caller.answered_at is not None
    assert callee.answered_at is not None
    begin = max(caller.answered_at, callee.answered_at)
    if caller.ended_at is None or callee.ended_at is None:
        return begin, begin
    end = min(caller.ended_at, callee.ended_at)
    for kill in named(case.evidence.faults, ENGINE_KILLED):
        if kill.ended_at >= caller.invited_at:
            end = min(end, kill.began_at)
    return begin, end


def _hears(
    case: Case, leg: Leg, own: Ring, other: Ring, wanted_s: float, together_s: float
) -> Iterator[Violation]:
    file = _heard(case, own)
    if file is None:
        yield case.broken("I11", f"the {leg.name.lower()}'s phone has recorded nothing")
        return
    heard_s = hears(file, tone_of(other.number)).seconds
    if heard_s < wanted_s:
        told = f"the {leg.name.lower()} hears the {leg.other.name.lower()}"
        yield case.broken("I11", f"{told} for {heard_s:.1f} s of {together_s:.1f} s")


def _heard(case: Case, ring: Ring) -> Path | None:
    name = next((event.heard for event in ring.events if event.event is PhoneMoment.ANSWERED), None)
    file = case.evidence.heard[ring.carrier] / name if name else None
    return file if file is not None and file.is_file() else None
