"""I6: a recording that was asked for has both voices, or there is a reason why there is none.

One that lacks something of the talk says so, and a fault in the talk has kept it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from sqlalchemy import RowMapping

from huibo.model import CallResult, Leg
from huibo.sandbox.phones import Answer, phone_of
from huibo.sandbox.tones import hears, tone_of
from tests.faults.invariants.excuses import ENGINE_KILLED, SILENT, UNWRITTEN, named, unshared_ms
from tests.faults.invariants.facts import Case, Facts, Violation, share_heard

_SHORTEST_MS = 1000  # a talk shorter than that needs none
_TOLERANCE_S, _TOLERANCE = 1.0, 0.05
_EDGES_S = 0.5  # of a short talk hide a tone
_HELD_BACK_S = 2.1  # the engine writes 32 KB at once


def check(facts: Facts) -> Iterator[Violation]:
    for case in facts.calls.values():
        row = facts.stored.recordings.get(case.name)
        if case.asked is not None and case.cdr is not None:
            yield from _recording(facts, case, row)
    for call_id in facts.stored.recordings.keys() - facts.calls.keys():
        yield Violation("I6", call_id, "a recording of a call that does not exist")


def _recording(facts: Facts, case: Case, row: RowMapping | None) -> Iterator[Violation]:
    assert case.asked is not None
    assert case.cdr is not None
    talked = case.cdr.result is CallResult.TALKED
    if row is None:
        if talked and case.asked.body.get("record") == "1" and _talk_ms(case) >= _SHORTEST_MS:
            yield case.broken("I6", "a recording was asked for, none is owed")
        return
    if case.asked.body.get("record") != "1" or not talked:
        yield case.broken("I6", "recorded, although nobody asked for it or nobody talked")
        return
    match row["state"]:
        case "ready":
            yield from _file(facts, case, row)
        case "failed":
            if not row["reason"]:
                yield case.broken("I6", "the recording failed without a reason")
        case "purged":
            return
        case state:
            yield case.broken("I6", f"the recording is still {state}: {row['reason']}")


def _file(facts: Facts, case: Case, row: RowMapping) -> Iterator[Violation]:
    path = facts.evidence.recordings / (row["key"] or "")
    if not path.is_file():
        yield case.broken("I6", f"the recording is said to be ready, {row['key']} is not there")
        return
    if path.stat().st_size != row["bytes"]:
        yield case.broken("I6", f"the recording has {path.stat().st_size} bytes, not {row['bytes']}")
        return
    if row["talk_ms"] >= _SHORTEST_MS:
        yield from _sound(case, path, row["talk_ms"] / 1000, row["reason"])


def _sound(case: Case, path: Path, talk_s: float, lacks: str | None) -> Iterator[Violation]:
    """`lacks`: what huibo says is missing of the talk; then it may be, as far as a fault explains it."""
    samples, rate = soundfile.read(path, always_2d=True)
    if rate != 8000 or samples.shape[1] != 2:
        yield case.broken("I6", f"the recording has {samples.shape[1]} channels of {rate} Hz")
        return
    bad = list(_length(case, len(samples) / rate, talk_s, lacks))
    yield from bad or _voices(case, samples, _unwritten_s(case) if lacks else _within_s(case, SILENT))


def _length(case: Case, length: float, talk_s: float, lacks: str | None) -> Iterator[Violation]:
    """Excused: what was never sent; and what an engine that was killed had not written yet."""
    tolerance_s, missing_s = _TOLERANCE_S + talk_s * _TOLERANCE, talk_s - length
    if missing_s > 0 and _within_s(case, ENGINE_KILLED):
        tolerance_s += _HELD_BACK_S
    if abs(missing_s) <= tolerance_s:
        return
    told = f"the recording is {length:.1f} s long, the talk was {talk_s:.1f} s"
    if missing_s < 0 or not lacks:
        yield case.broken("I6", told)
        return
    missing_s = min(talk_s, _talk_ms(case) / 1000) - length  # that a talk was shorter is a matter of I1
    if missing_s > _unwritten_s(case) + tolerance_s and not _sends_nothing(case, Leg.CALLER):
        yield case.broken("I6", f"{told} ({lacks}), and no fault explains that")


def _voices(case: Case, samples: NDArray[np.float64], lost_s: float) -> Iterator[Violation]:
    """Excused: so much time as was lost, and a phone that sends no audio."""
    length = len(samples) / 8000
    numbers = {leg: case.rings[leg][-1].number for leg in Leg if case.rings[leg]}
    for channel, (leg, number) in enumerate(numbers.items()):
        if _sends_nothing(case, leg):
            continue
        own = hears(samples[:, channel], tone_of(number)).seconds
        if own < (min(length, _up_s(case, leg)) - lost_s - _EDGES_S) * share_heard(number):
            yield case.broken("I6", f"the {leg.name.lower()} is heard for {own:.1f} s of {length:.1f} s")
        other = numbers.get(leg.other)
        if (
            other is not None
            and tone_of(other) != tone_of(number)
            and hears(samples[:, channel], tone_of(other))
        ):
            yield case.broken("I6", f"on the {leg.name.lower()}'s channel the other one is heard")


def _sends_nothing(case: Case, leg: Leg) -> bool:
    ring = case.last_ring(leg)
    return ring is not None and Answer(silent=True) in phone_of(ring.number).steps


def _up_s(case: Case, leg: Leg) -> float:
    """How long a phone was up after the callee's answer: the other one may be held in silence for longer."""
    ring, callee = case.answered_ring(leg), case.answered_ring(Leg.CALLEE)
    if ring is None or ring.ended_at is None or callee is None or callee.answered_at is None:
        return math.inf
    return (ring.ended_at - callee.answered_at) / 1000


def _unwritten_s(case: Case) -> float:
    """How much of a talk may be missing because of faults in it; 0 without such a fault."""
    lost_s = _within_s(case, (*UNWRITTEN, *ENGINE_KILLED))
    return lost_s and lost_s + _HELD_BACK_S


def _within_s(case: Case, names: tuple[str, ...]) -> float:
    """How much of a talk lies in faults of these names. The death of an engine lasts until its end."""
    callee, end = case.answered_ring(Leg.CALLEE), case.over_at
    if callee is None or callee.answered_at is None:
        return 0.0
    begin = callee.answered_at
    faults = [
        replace(fault, ended_at=end)
        if fault.name.startswith(ENGINE_KILLED) and begin <= fault.ended_at and fault.began_at <= end
        else fault
        for fault in named(case.evidence.faults, names)
    ]
    return (end - begin - unshared_ms(faults, begin, end)) / 1000


def _talk_ms(case: Case) -> int:
    """By the phones; by the CDR where they do not tell."""
    ends = [ring.ended_at for leg in Leg if (ring := case.answered_ring(leg)) is not None]
    callee = case.answered_ring(Leg.CALLEE)
    if callee is None or callee.answered_at is None or None in ends:
        return case.cdr.talk_s * 1000 if case.cdr is not None else 0
    return min(end for end in ends if end is not None) - callee.answered_at
