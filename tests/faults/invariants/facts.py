"""All that is known of a run, put together call by call: what was asked, stored, heard of the phones, pushed.

Judges nothing. What huibo says (`call`, `state`, `cdr`, `pushes` …) and what others saw (`asked`, `rings`,
`arrived`) stay apart. Times are UNIX ms: huibo's by its own clock, all others by the machine's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from huibo.flow.state import CallState
from huibo.model import Call, Cdr, Leg
from huibo.numbers import national
from huibo.sandbox.journal import PhoneEvent, PhoneMoment
from huibo.sandbox.phones import Press, phone_of
from tests.faults.evidence import Answer, Arrived, Asked, Evidence, Fault
from tests.faults.invariants import excuses
from tests.faults.invariants.stored import Stored, StoredPush, read

T = TypeVar("T")

SLACK_MS = 2000  # around a fault, and between what a phone saw and what was heard of it
_LATE_END_MS = 60_000  # an end that nobody told of is found out by then
AFTERMATH_MS = 5000  # so long after a fault a violation is still named with it


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept. `call`: its id, or the number of a request without a call."""

    invariant: str
    call: str
    text: str
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class Ring:
    """What a phone saw of one INVITE."""

    carrier: str
    number: str
    events: list[PhoneEvent] = field(default_factory=list)

    def at(self, *moments: PhoneMoment) -> int | None:
        """When one of these happened first, UNIX ms."""
        return next((at_of(event) for event in self.events if event.event in moments), None)

    @property
    def invited_at(self) -> int:
        return at_of(self.events[0])

    @property
    def rang_at(self) -> int | None:
        return self.at(PhoneMoment.RINGING)

    @property
    def heard_at(self) -> int | None:
        """When the first sign came that somebody may have heard it."""
        return self.at(PhoneMoment.RINGING, PhoneMoment.EARLY_MEDIA, PhoneMoment.ANSWERED)

    @property
    def answered_at(self) -> int | None:
        return self.at(PhoneMoment.ANSWERED)

    @property
    def ended_at(self) -> int | None:
        return self.at(PhoneMoment.HUNG_UP, PhoneMoment.REFUSED)

    @property
    def code(self) -> int | None:
        """The SIP response by which the phone refused."""
        return next((event.code for event in self.events if event.event is PhoneMoment.REFUSED), None)

    @property
    def last_at(self) -> int:
        return at_of(self.events[-1])


@dataclass(slots=True)
class Case:
    """One call, or a request that came to none."""

    evidence: Evidence
    asked: Asked | None
    call: Call | None = None
    state: CallState | None = None
    cdr: Cdr | None = None
    ended_at: int | None = None  # of the call's row
    rings: dict[Leg, list[Ring]] = field(default_factory=lambda: {leg: [] for leg in Leg})
    pushes: list[StoredPush] = field(default_factory=list)
    arrived: list[Arrived] = field(default_factory=list)
    looked_at: list[int] = field(default_factory=list)  # when an engine held something of it

    @property
    def name(self) -> str:
        if self.call is not None:
            return self.call.call_id
        assert self.asked is not None
        return self.asked.body.get("src", self.asked.key)

    @property
    def app_id(self) -> str:
        return self.call.app_id if self.call is not None else (self.asked and self.asked.body["appId"]) or ""

    @property
    def accepted(self) -> Answer | None:
        """The first answer that said so."""
        answers = self.asked.answers if self.asked is not None else []
        return min((one for one in answers if one.error_code == "0"), key=lambda one: one.at, default=None)

    @property
    def sent_at(self) -> int:
        if self.asked is not None:
            return self.asked.sent_at
        return self.call.accepted_at if self.call is not None else 0

    @property
    def clock_is_right(self) -> bool:
        """huibo's times of this call can be compared with those of others.

        Excused, when not: a clock that was wrong while a control plane was started and this call went on; or
        before, when the process that took the call is still that one, which the time of acceptance tells.
        """
        until = self.seen_until + _LATE_END_MS
        steps = [step for step in excuses.wrong_starts(self.evidence.faults) if step.began_at <= until]
        if any(step.ended_at + SLACK_MS >= self.sent_at for step in steps):
            return False
        return not steps or self.accepted_in_time

    @property
    def accepted_in_time(self) -> bool:
        """huibo says that it accepted the call after it was asked and before it answered."""
        if self.call is None or self.asked is None:
            return True
        slack_ms = SLACK_MS + self.evidence.allowed_late_ms
        latest = min([one.at for one in self.asked.answers if one.error_code == "0"], default=self.seen_until)
        return self.sent_at - slack_ms <= self.call.accepted_at <= latest + slack_ms

    @property
    def seen_until(self) -> int:
        """The last thing that others than huibo saw of the call itself; pushes may come much later."""
        seen = [ring.last_at for leg in Leg for ring in self.rings[leg]]
        seen += [one.at for one in self.asked.answers] if self.asked is not None else []
        return max([self.sent_at, *seen, *self.looked_at])

    @property
    def over_at(self) -> int:
        """The end of the call, by whoever saw it last."""
        if self.ended_at is not None and self.clock_is_right:
            return max(self.ended_at, self.seen_until)
        return self.seen_until

    def hit(self, names: tuple[str, ...], since: int | None = None, until: int | None = None) -> list[Fault]:
        """The faults of these names that overlap the call, or a part of it."""
        begin = (self.sent_at if since is None else since) - SLACK_MS
        end = (self.over_at if until is None else until) + SLACK_MS
        found = excuses.named(self.evidence.faults, names)
        return [fault for fault in found if fault.began_at <= end and fault.ended_at >= begin]

    def last_ring(self, leg: Leg) -> Ring | None:
        return self.rings[leg][-1] if self.rings[leg] else None

    def answered_ring(self, leg: Leg) -> Ring | None:
        return next((ring for ring in self.rings[leg] if ring.answered_at is not None), None)

    def broken(self, invariant: str, text: str) -> Violation:
        """A violation with the faults that overlap all that is known of the call."""
        end = max([self.over_at, *(one.at for one in self.arrived)]) + AFTERMATH_MS
        names = dict.fromkeys(
            fault.name
            for fault in self.evidence.faults
            if fault.began_at <= end and fault.ended_at + AFTERMATH_MS >= self.sent_at
        )
        return Violation(invariant, self.name, text, tuple(names))


@dataclass(slots=True)
class Facts:
    """A whole run."""

    evidence: Evidence
    stored: Stored
    cases: list[Case]
    calls: dict[str, Case]  # by call id
    strangers: list[Ring]  # of numbers that nobody asked for

    @property
    def until(self) -> int:
        """The last thing that anybody saw."""
        seen = [case.over_at for case in self.cases] + [one.at for one in self.evidence.arrived]
        return max([*seen, *(look.at for look in self.evidence.held)], default=0)


def gather(evidence: Evidence) -> Facts:
    """Read the database and put everything together."""
    stored = read(evidence.database_url)
    rings = _rings(evidence)
    rows = _by(stored.calls, lambda row: (national(row.call.caller), national(row.call.callee)))
    cases: list[Case] = []
    for asked in evidence.asked:
        own = rows.pop(_numbers(asked), [])
        cases += [Case(evidence, asked, *row.parts) for row in own] or [Case(evidence, asked)]
    cases += [Case(evidence, None, *row.parts) for left in rows.values() for row in left]
    for case in cases:  # the first call of a request has what its phones saw
        for leg, number in zip(Leg, _numbers_of(case), strict=True):
            case.rings[leg] = rings.pop(number, [])
    calls = {case.call.call_id: case for case in cases if case.call is not None}
    for push in stored.pushes:
        if push.call_id in calls:
            calls[push.call_id].pushes.append(push)
    for arrived in evidence.arrived:
        if (found := calls.get(arrived.body.get("callId", ""))) is not None:
            found.arrived.append(arrived)
    for look in evidence.held:
        for call_id in {*look.bridges, *(name.rpartition("-")[0] for name in look.channels)} & calls.keys():
            calls[call_id].looked_at.append(look.at)
    return Facts(evidence, stored, cases, calls, [ring for left in rings.values() for ring in left])


def share_heard(number: str) -> float:
    """In how much of a talk the voice of a phone must be heard at least.

    While a key goes through, Asterisk takes the audio away, and sometimes far longer than the key is held.
    """
    presses = any(isinstance(step, Press) for step in phone_of(number).steps)
    return 0.15 if presses else 0.5


def at_of(event: PhoneEvent) -> int:
    return round(event.at.timestamp() * 1000)


def digits(body_number: str) -> str:
    """The national digits of a number as it is posted."""
    return body_number.removeprefix("0086")


def _rings(evidence: Evidence) -> dict[str, list[Ring]]:
    """By number, as it is dialled at home; those of one number in the order of their INVITEs."""
    found: dict[tuple[str, str, str], Ring] = {}
    for carrier, log in evidence.phones.items():
        for event in sorted(log, key=lambda event: event.at):
            number = event.number[-11:]  # carriers may want a prefix
            found.setdefault((carrier, number, event.call), Ring(carrier, number)).events.append(event)
    by_number = _by(found.values(), lambda ring: ring.number)
    return {number: sorted(rings, key=lambda ring: ring.invited_at) for number, rings in by_number.items()}


def _numbers(asked: Asked) -> tuple[str, str]:
    return digits(asked.body["src"]), digits(asked.body["dst"])


def _numbers_of(case: Case) -> tuple[str, str]:
    if case.asked is not None:
        return _numbers(case.asked)
    assert case.call is not None
    return national(case.call.caller), national(case.call.callee)


def _by(items: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    found: dict[Any, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return dict(found)
