"""The life of one call: `step(state, event) -> (state, commands)`.

Pure: no I/O, no clock, no ids of its own. It copes with any event at any time, twice or late, and holds:
each leg is dialled at most once, the call ends exactly once, and no leg is alive when it has.
"""

from __future__ import annotations

from dataclasses import replace

from huibo.engine.events import (
    LegAnswered,
    LegEarlyMedia,
    LegEnded,
    LegEvent,
    LegInvited,
    LegRinging,
)
from huibo.errors import ending_of, moment_of
from huibo.flow.settle import cdr_of
from huibo.flow.state import (
    CallState,
    Command,
    DialCallee,
    DialCaller,
    DialFailed,
    EngineGone,
    Event,
    Finish,
    GuardTalk,
    HangUp,
    LegState,
    Start,
    StartRingback,
    StopRingback,
    Tell,
    Tick,
)
from huibo.model import EndReason, Leg, Moment, Report

RELEASE_S = (
    30  # a leg that we asked to end and that says nothing for so long is asked again, then written off
)
GUARD_MARGIN_S = 2  # the engine's own limits come this much later than ours
_SIP_REQUEST_TIMEOUT = 408
_SIP_REQUEST_TERMINATED = 487


def step(call_id: str, state: CallState, event: Event) -> tuple[CallState, list[Command]]:
    """Take one event. Returns the new state and what is to be done, in order.

    The state is to be stored before any of the commands is carried out.
    """
    if state.over:
        return state, []
    turn = _Turn(call_id, state)
    match event:
        case Start(at):
            turn.start(at)
        case Tick(at):
            turn.tick(at)
        case DialFailed(leg, at):
            turn.end(leg, at, state.leg(leg).leaving or EndReason.TRUNK_DOWN, None)
        case EngineGone(at):
            for leg in Leg:
                turn.end(leg, at, EndReason.LOST, None)
        case LegEvent():
            if turn.state.leg(event.leg).alive:
                turn.leg_event(event)
    turn.finish_if_over(event.at)
    return turn.state, turn.commands


def deadlines(state: CallState) -> list[int]:
    """All moments (UNIX ms) at which a `Tick` would change something; empty: nothing to wait for."""
    if state.over:
        return []
    plan, due = state.plan, []
    if state.caller.dialled_at is None:
        due.append(state.accepted_at + plan.dispatch_deadline_s * 1000)
    for leg, ring_s in ((state.caller, plan.caller_ring_s), (state.callee, plan.callee_ring_s)):
        if not leg.alive or leg.dialled_at is None:
            continue
        if leg.leaving_at is not None:
            due.append(leg.leaving_at + RELEASE_S * 1000)
        elif not leg.answered:
            due.append(leg.dialled_at + ring_s * 1000)
    if state.talking and state.callee.leaving is None and state.callee.record.answered_at is not None:
        due.append(state.callee.record.answered_at + plan.max_talk_s * 1000)
    return due


class _Turn:
    """One step in the making: the state as it becomes, and the commands so far."""

    def __init__(self, call_id: str, state: CallState) -> None:
        self.call_id = call_id
        self.state = state
        self.commands: list[Command] = []

    def start(self, at: int) -> None:
        state = self.state
        if state.caller.dialled_at is not None:
            return
        if at >= state.accepted_at + state.plan.dispatch_deadline_s * 1000:
            self._expire(at)
            return
        plan = state.plan
        guard_s = plan.caller_ring_s + plan.callee_ring_s + plan.max_talk_s + GUARD_MARGIN_S
        self._change(Leg.CALLER, dialled_at=at)
        self.commands.append(DialCaller(plan.caller_ring_s, guard_s))

    def tick(self, at: int) -> None:
        plan = self.state.plan
        if self.state.caller.dialled_at is None:
            if at >= self.state.accepted_at + plan.dispatch_deadline_s * 1000:
                self._expire(at)
            return
        if self.state.talking and self.state.callee.leaving is None:
            answered_at = self.state.callee.record.answered_at
            if answered_at is not None and at >= answered_at + plan.max_talk_s * 1000:
                self._leave(Leg.CALLEE, at, EndReason.MAX_DURATION)
                self._leave(Leg.CALLER, at, EndReason.MAX_DURATION)
        for leg, ring_s in ((Leg.CALLER, plan.caller_ring_s), (Leg.CALLEE, plan.callee_ring_s)):
            self._tick_leg(leg, ring_s, at)

    def leg_event(self, event: LegEvent) -> None:
        leg, record = event.leg, self.state.leg(event.leg).record
        match event:
            case LegInvited() if record.invited_at is None:
                self._record(leg, invited_at=event.at)
                self._tell(leg, Moment.INVITED, event.at)
            case LegRinging() if record.ringing_at is None and record.answered_at is None:
                self._record(leg, ringing_at=event.at)
                self._tell(leg, Moment.RINGING, event.at)
            case LegEarlyMedia() if leg is Leg.CALLEE:
                self._stop_ringback()
            case LegAnswered() if record.answered_at is None:
                self._answered(leg, event.at)
            case LegEnded():
                self.end(leg, event.at, self._reason(event), event.sip_code)

    def end(self, leg: Leg, at: int, reason: EndReason, sip_code: int | None) -> None:
        """The leg is gone: record and report it, and let go of the other one."""
        state = self.state.leg(leg)
        if not state.alive:
            return
        code = None if state.answered else _code(reason, state, sip_code)
        self._record(leg, ended_at=at, reason=reason, sip_code=code)
        self._tell(leg, moment_of(reason, state.answered), at, code)
        if leg is Leg.CALLEE:
            self._stop_ringback()
        other = self.state.leg(leg.other)
        if other.alive:
            self._leave(leg.other, at, EndReason.RELEASED if other.answered else EndReason.CANCELLED)

    def finish_if_over(self, at: int) -> None:
        state = self.state
        if state.over or state.caller.record.ended_at is None or state.callee.alive:
            return
        ends = [leg.record.ended_at for leg in (state.caller, state.callee) if leg.record.ended_at]
        self.state = replace(state, ended_at=max(ends, default=at))
        self.commands.append(Finish(self.state.told + 1, cdr_of(self.call_id, self.state)))

    def _answered(self, leg: Leg, at: int) -> None:
        self._record(leg, answered_at=at)
        self._tell(leg, Moment.ANSWERED, at)
        if self.state.leg(leg).leaving is not None:
            return  # the answer crossed our CANCEL; the hang-up that was asked for ends it
        plan = self.state.plan
        if leg is Leg.CALLER:
            guard_s = plan.callee_ring_s + plan.max_talk_s + GUARD_MARGIN_S
            self._change(Leg.CALLEE, dialled_at=at)
            self.commands += [DialCallee(plan.callee_ring_s, guard_s), StartRingback()]
            self.state = replace(self.state, ringback=True)
        else:
            self._stop_ringback()
            self.commands.append(GuardTalk(plan.max_talk_s + GUARD_MARGIN_S))

    def _reason(self, event: LegEnded) -> EndReason:
        leg = self.state.leg(event.leg)
        if leg.leaving is not None:
            return leg.leaving
        if event.why is not None:
            return event.why
        if not leg.answered:
            return ending_of(event.sip_code, rang=leg.record.ringing_at is not None)
        answered_at, limit_ms = self.state.callee.record.answered_at, self.state.plan.max_talk_s * 1000
        if answered_at is not None and event.at >= answered_at + limit_ms:
            return EndReason.MAX_DURATION  # the engine's own limit came first
        return EndReason.HUNG_UP

    def _tick_leg(self, leg: Leg, ring_s: int, at: int) -> None:
        state = self.state.leg(leg)
        if not state.alive or state.dialled_at is None:
            return
        if state.leaving_at is not None:
            if at >= state.leaving_at + RELEASE_S * 1000:
                self.commands.append(HangUp(leg))
                self.end(
                    leg, at, EndReason.LOST if not state.answered else state.leaving or EndReason.LOST, None
                )
        elif not state.answered and at >= state.dialled_at + ring_s * 1000:
            self._leave(leg, at, EndReason.NO_ANSWER)

    def _leave(self, leg: Leg, at: int, reason: EndReason) -> None:
        if self.state.leg(leg).leaving is None:
            self._change(leg, leaving=reason, leaving_at=at)
            self.commands.append(HangUp(leg))

    def _expire(self, at: int) -> None:
        """Never dialled: the caller's leg ends before it began."""
        self._record(Leg.CALLER, ended_at=at, reason=EndReason.EXPIRED)
        self._tell(Leg.CALLER, Moment.FAILED, at)

    def _stop_ringback(self) -> None:
        if self.state.ringback:
            self.state = replace(self.state, ringback=False)
            self.commands.append(StopRingback())

    def _tell(self, leg: Leg, moment: Moment, at: int, sip_code: int | None = None) -> None:
        self.state = replace(self.state, told=self.state.told + 1)
        self.commands.append(Tell(self.state.told, Report(leg, moment, at, sip_code)))

    def _record(self, leg: Leg, **changes: object) -> None:
        self._change(leg, record=replace(self.state.leg(leg).record, **changes))  # type: ignore[arg-type]

    def _change(self, leg: Leg, **changes: object) -> None:
        changed: LegState = replace(self.state.leg(leg), **changes)  # type: ignore[arg-type]
        self.state = (
            replace(self.state, caller=changed) if leg is Leg.CALLER else replace(self.state, callee=changed)
        )


def _code(reason: EndReason, leg: LegState, sip_code: int | None) -> int | None:
    """The SIP code to report for a leg that was never answered."""
    if leg.leaving is EndReason.NO_ANSWER:
        return _SIP_REQUEST_TIMEOUT  # the CANCEL was ours: what the far end said to it tells nothing
    return _SIP_REQUEST_TERMINATED if reason is EndReason.CANCELLED else sip_code
