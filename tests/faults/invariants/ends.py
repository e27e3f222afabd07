"""I1: every accepted call reaches one terminal state and one CDR, which those who saw the call agree with."""

from __future__ import annotations

from collections.abc import Iterator

from huibo.model import CallResult, Cdr, EndReason, Leg, LegRecord
from tests.faults.invariants.excuses import (
    ANY,
    BLINDFOLD,
    CLOCK_STEP_MS,
    CONTROL_AWAY,
    DATABASE_AWAY,
    ENGINE_KILLED,
    unshared_ms,
    wrong_starts,
)
from tests.faults.invariants.facts import SLACK_MS, Case, Facts, Ring, Violation

_CROSSING_MS = 1500  # an answer or a ringing that meets our CANCEL is not heard of
_PERSISTS_MS = 90_000  # so long a request is sent again and again
_RECOVERY_MS = 10_000  # so long after a fault the platform may fail because of it
_OURS = (EndReason.CANCELLED, EndReason.WITHDRAWN, EndReason.NO_ANSWER)  # whose SIP code is not the phone's
_PLATFORM = (EndReason.LOST, EndReason.EXPIRED, EndReason.PROMPT_FAILED)


def check(facts: Facts) -> Iterator[Violation]:
    for case in facts.cases:
        if case.asked is not None:
            yield from _answers(facts, case)
        if case.call is None:
            continue
        if case.asked is None:
            yield case.broken("I1", "nobody asked for this call")
        if case.cdr is None or case.ended_at is None or case.state is None or not case.state.over:
            yield from _not_over(case)
            continue
        if not case.cdr.ended_at == case.ended_at == case.state.ended_at:
            yield case.broken("I1", "call, its state and CDR say three different ends")
        yield from _fits_itself(case, case.cdr)
        yield from _acceptance(case)
        for leg in Leg:
            yield from _leg(case, leg, case.cdr.caller if leg is Leg.CALLER else case.cdr.callee)
        yield from _platform_failed(case, case.cdr)
    for call_id in facts.stored.cdr_ids - facts.calls.keys():
        yield Violation("I1", call_id, "a CDR without a call")


def _answers(facts: Facts, case: Case) -> Iterator[Violation]:
    """Every call that was promised is there."""
    assert case.asked is not None
    for answer in case.asked.answers:
        if answer.error_code == "0" and answer.call_id not in facts.calls:
            yield case.broken(
                "I1", f"answered with callId {answer.call_id}, which the database does not know"
            )
            return


def _not_over(case: Case) -> Iterator[Violation]:
    assert case.state is not None
    missing = {"end": case.ended_at is None, "CDR": case.cdr is None, "terminal state": not case.state.over}
    yield case.broken("I1", "without " + " and ".join(name for name, is_so in missing.items() if is_so))


def _fits_itself(case: Case, cdr: Cdr) -> Iterator[Violation]:
    """The CDR is reckoned as docs/wire.md says, from its own times."""
    caller, callee = cdr.caller, cdr.callee
    if cdr.ended_at != _end(caller, callee):
        yield case.broken("I1", "the CDR's end is not that of its last leg")
    talk_s = billed_s = 0
    if caller.answered_at is not None and callee.answered_at is not None:
        talk_s = -(-max(0, cdr.ended_at - callee.answered_at) // 1000)
        end = cdr.ended_at // 1000
        billed_s = -(-max(0, 2 * end - caller.answered_at // 1000 - callee.answered_at // 1000) // 2)
    if (cdr.talk_s, cdr.billed_s) != (talk_s, billed_s):
        yield case.broken(
            "I1", f"the CDR has {cdr.talk_s} s and bills {cdr.billed_s}, not {talk_s} and {billed_s}"
        )
    if cdr.result is not (result := _result(caller, callee)):
        yield case.broken("I1", f"the CDR's result is {cdr.result}, its legs say {result}")


def _end(caller: LegRecord, callee: LegRecord) -> int | None:
    """When the last leg was gone; a conversation of which one was lost ends at the last sign of that."""
    ends = [leg.ended_at for leg in (caller, callee) if leg.ended_at is not None]
    talked = caller.answered_at is not None and callee.answered_at is not None
    which = min if talked and EndReason.LOST in (caller.reason, callee.reason) else max
    return which(ends, default=None)


def _result(caller: LegRecord, callee: LegRecord) -> CallResult:
    if caller.answered_at is not None and callee.answered_at is not None:
        return CallResult.TALKED
    if caller.reason in _PLATFORM or callee.reason in _PLATFORM:
        return CallResult.UNKNOWN
    if caller.answered_at is None:
        return CallResult.CALLER_NO_ANSWER if caller.ringing_at is not None else CallResult.CALLER_UNREACHED
    if callee.ringing_at is not None or callee.reason in (None, EndReason.CANCELLED, EndReason.WITHDRAWN):
        return CallResult.CALLEE_NO_ANSWER
    return CallResult.CALLEE_UNREACHED


def _acceptance(case: Case) -> Iterator[Violation]:
    """Excused: a control plane that was started while the clock was wrong lives by that time."""
    assert case.call is not None
    wrong_ms = abs(abs(case.call.accepted_at - case.sent_at) - CLOCK_STEP_MS)
    lives_by_it = wrong_starts(case.evidence.faults) and wrong_ms < _PERSISTS_MS
    if not case.accepted_in_time and not lives_by_it:
        yield case.broken("I1", "accepted, it says, before it was asked or after it answered")


def _leg(case: Case, leg: Leg, record: LegRecord) -> Iterator[Violation]:
    yield from _invented(case, leg, record)
    if (ring := case.last_ring(leg)) is None:
        return
    if not case.hit(BLINDFOLD):  # excused: what the control plane does not see, it may never know
        yield from _overlooked(case, leg, record)
        yield from _code(case, leg, record, ring)
    if case.clock_is_right:
        yield from _times(case, leg, record, ring)


def _invented(case: Case, leg: Leg, record: LegRecord) -> Iterator[Violation]:
    """Nothing is in the CDR that no phone saw: no fault excuses that."""
    rings = case.rings[leg]
    saw = {
        "invited": (record.invited_at, bool(rings)),
        "ringing": (record.ringing_at, any(ring.rang_at is not None for ring in rings)),
        "answered": (record.answered_at, any(ring.answered_at is not None for ring in rings)),
    }
    for what, (told, seen) in saw.items():
        if told is not None and not seen:
            yield case.broken("I1", f"the CDR says {_name(leg)} {what}, the phone never was")
            return


def _overlooked(case: Case, leg: Leg, record: LegRecord) -> Iterator[Violation]:
    """Nothing is missing in the CDR that lasted."""
    if record.invited_at is None:
        yield case.broken("I1", f"{_name(leg)}'s phone was invited, the CDR does not say so")
        return
    for ring in case.rings[leg]:
        end = ring.ended_at or ring.last_at
        if (
            ring.answered_at is not None
            and record.answered_at is None
            and end - ring.answered_at > _CROSSING_MS
        ):
            yield case.broken("I1", f"{_name(leg)}'s phone answered, the CDR does not say so")
        until = ring.answered_at or end
        if ring.rang_at is not None and record.ringing_at is None and until - ring.rang_at > _CROSSING_MS / 3:
            yield case.broken("I1", f"{_name(leg)}'s phone rang, the CDR does not say so")


def _code(case: Case, leg: Leg, record: LegRecord, ring: Ring) -> Iterator[Violation]:
    if ring.code is None or record.answered_at is not None or record.reason in _OURS:
        return
    if record.sip_code != ring.code:
        yield case.broken(
            "I1", f"{_name(leg)}'s phone refused with {ring.code}, the CDR has {record.sip_code}"
        )


def _times(case: Case, leg: Leg, record: LegRecord, last: Ring) -> Iterator[Violation]:
    """Every moment is that of the phone.

    Excused: one that is stamped when it is found out, if the control plane was blind all the time between.
    And phones do not hear of the end of an engine that is killed.
    """
    rings, tolerance_ms = case.rings[leg], SLACK_MS + case.evidence.allowed_late_ms
    seen = {
        "invited": (record.invited_at, rings[0].invited_at),
        "ringing": (record.ringing_at, next((r.rang_at for r in rings if r.rang_at is not None), None)),
        "answered": (
            record.answered_at,
            next((r.answered_at for r in rings if r.answered_at is not None), None),
        ),
        "ended": (record.ended_at, last.ended_at),
    }
    if last.ended_at is not None and _dialled_after(case, leg, last.ended_at):
        del seen["ended"]  # the last attempt has come to no phone
    for what, (told, saw) in seen.items():
        if told is None or saw is None or any(kill.began_at <= saw for kill in case.hit(ENGINE_KILLED)):
            continue
        unseen = what == "ended" and case.hit(CONTROL_AWAY)  # then it is put at the last beat
        blind = (*BLINDFOLD, *DATABASE_AWAY) if unseen else BLINDFOLD
        if unshared_ms(case.hit(blind), min(told, saw), max(told, saw)) > tolerance_ms:
            yield case.broken("I1", f"{_name(leg)} {what} {told - saw:+d} ms from when the phone did")


def _dialled_after(case: Case, leg: Leg, at: int) -> bool:
    dialled_at = case.state.leg(leg).dialled_at if case.state is not None else None
    return dialled_at is not None and dialled_at > at


def _platform_failed(case: Case, cdr: Cdr) -> Iterator[Violation]:
    """Excused by any fault, and for a while after it."""
    if cdr.result is CallResult.UNKNOWN and not case.hit(ANY, since=case.sent_at - _RECOVERY_MS):
        yield case.broken("I1", "the CDR says that the platform failed, and no fault was near")


def _name(leg: Leg) -> str:
    return leg.name.lower()
