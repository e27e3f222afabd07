"""The state of one call and the words in which the flow machine is spoken to and answers.

Owns plain data. `CallState` is what is stored at each step: with it and with what the engine holds, a call
can be taken up again after any crash.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from huibo.engine.events import LegEvent
from huibo.model import Cdr, EndReason, Leg, LegRecord, Report


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits of one call, fixed when it is accepted. Whole seconds."""

    dispatch_deadline_s: int
    caller_ring_s: int
    callee_ring_s: int
    max_talk_s: int


@dataclass(frozen=True, slots=True)
class LegState:
    """One leg as the machine sees it. Times are UNIX milliseconds."""

    record: LegRecord = field(default_factory=LegRecord)
    dialled_at: int | None = None  # set before the engine is asked: from here on it is never asked again
    leaving: EndReason | None = None  # we have asked for its end, and why
    leaving_at: int | None = None

    @property
    def alive(self) -> bool:
        """The engine may hold a channel of this leg."""
        return self.dialled_at is not None and self.record.ended_at is None

    @property
    def answered(self) -> bool:
        return self.record.answered_at is not None


@dataclass(frozen=True, slots=True)
class CallState:
    """One call as the machine sees it."""

    accepted_at: int
    plan: Plan
    caller: LegState = field(default_factory=LegState)
    callee: LegState = field(default_factory=LegState)
    ringback: bool = False  # the caller hears our ringing tone
    told: int = 0  # how many moments have been reported: numbers them, whatever dies in between
    ended_at: int | None = None  # set once: the call is over, its CDR is written

    def leg(self, leg: Leg) -> LegState:
        return self.caller if leg is Leg.CALLER else self.callee

    @property
    def over(self) -> bool:
        return self.ended_at is not None

    @property
    def talking(self) -> bool:
        return self.caller.alive and self.caller.answered and self.callee.alive and self.callee.answered


# Events beside those of the engine


@dataclass(frozen=True, slots=True)
class Start:
    """The answer to the request has left: dial."""

    at: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; the machine looks which deadlines are due."""

    at: int


@dataclass(frozen=True, slots=True)
class DialFailed:
    """The engine says that a leg was certainly not dialled."""

    leg: Leg
    at: int


@dataclass(frozen=True, slots=True)
class EngineGone:
    """The engine is lost with every leg it held."""

    at: int


Event = LegEvent | Start | Tick | DialFailed | EngineGone


# Commands


@dataclass(frozen=True, slots=True)
class DialCaller:
    ring_s: int
    guard_s: int


@dataclass(frozen=True, slots=True)
class DialCallee:
    ring_s: int
    guard_s: int


@dataclass(frozen=True, slots=True)
class StartRingback:
    pass


@dataclass(frozen=True, slots=True)
class StopRingback:
    pass


@dataclass(frozen=True, slots=True)
class GuardTalk:
    """The engine is to end both legs by itself after so many seconds."""

    seconds: int


@dataclass(frozen=True, slots=True)
class HangUp:
    leg: Leg


@dataclass(frozen=True, slots=True)
class Tell:
    """Report a moment of a leg to the customer. `seq` counts from 1 within the call."""

    seq: int
    report: Report


@dataclass(frozen=True, slots=True)
class Finish:
    """The call is over: write the CDR, owe its push, free the bridge. The last command of every call."""

    seq: int  # follows that of the last report
    cdr: Cdr


EngineCommand = DialCaller | DialCallee | StartRingback | StopRingback | GuardTalk | HangUp
Command = EngineCommand | Tell | Finish
