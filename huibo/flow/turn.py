"""One step of a call in the making: the state as it becomes, the commands so far, and the moves that
every part of the machine is made of. Pure; decides nothing by itself.
"""

from __future__ import annotations

import math
from dataclasses import replace

from huibo.errors import moment_of
from huibo.flow.settle import cdr_of, end_of
from huibo.flow.state import (
    CallState,
    Command,
    DialCallee,
    DialCaller,
    Finish,
    HangUp,
    LegState,
    Seize,
    StartRingback,
    StopRingback,
    Tell,
    TellKey,
)
from huibo.model import Attempt, EndReason, Leg, LegRecord, Moment, Report, RingSound

GUARD_MARGIN_S = 2  # the engine's own limits come this much later than ours
TRUNK_SILENT_S = (
    16  # a carrier that answers nothing at all is given up by then (SIP's timer B, as configured)
)
_SIP_REQUEST_TIMEOUT = 408
_SIP_REQUEST_TERMINATED = 487


class Turn:
    """Begins with a state, which it leaves as it is; what happens is told by calling its methods in order."""

    def __init__(self, call_id: str, state: CallState) -> None:
        self.call_id = call_id
        self.state = state.copy()
        self.commands: list[Command] = []

    def do(self, *commands: Command) -> None:
        self.commands += commands

    def dial(self, leg: Leg, at: int) -> None:
        """Dial a leg over the next trunk of its route, or wait until that has room for it."""
        trunk, one = self.state.trunk(leg), self.state.leg(leg)
        if trunk is not None and (one.tried or trunk in self.state.plan.paced):
            one.waiting = True
            self.do(Seize(leg, trunk))
        else:
            self.dial_now(leg, at)

    def dial_now(self, leg: Leg, at: int) -> None:
        plan, one, trunk = self.state.plan, self.state.leg(leg), self.state.trunk(leg) or ""
        guard_s = plan.callee_ring_s + plan.max_talk_s + GUARD_MARGIN_S
        one.dialled_at, one.waiting, one.progress = at, False, False
        if leg is Leg.CALLER:
            before_s = plan.caller_ring_s + longest_menu_s(self.state)
            before_s += TRUNK_SILENT_S * (len(plan.callee_route) - 1) if plan.callee_route else 0
            self.do(DialCaller(trunk, plan.caller_ring_s, before_s + guard_s, len(one.tried)))
            return
        self.do(DialCallee(trunk, plan.callee_ring_s, guard_s, plan.record, len(one.tried)))
        self.start_ringback()

    def give_up_trunk(self, leg: Leg, at: int, reason: EndReason, sip_code: int | None = None) -> None:
        """The trunk did not take the leg and no phone rang: on to the next one of its route."""
        one = self.state.leg(leg)
        attempt = Attempt(self.state.trunk(leg) or "", at, reason, sip_code)
        one.dialled_at, one.waiting, one.tried = None, False, (*one.tried, attempt)
        self.dial(leg, at)

    def leave(self, leg: Leg, at: int, reason: EndReason) -> None:
        """Ask for the end of a leg, once."""
        one = self.state.leg(leg)
        if one.alive and one.leaving is None:
            one.leaving, one.leaving_at = reason, at
            self.do(HangUp(leg))

    def end(
        self,
        leg: Leg,
        at: int,
        reason: EndReason,
        sip_code: int | None = None,
        known_until: int | None = None,
    ) -> None:
        """The leg is gone: record and report it, and let go of the other one.

        `known_until`: an end that nobody saw is put there, but not before anything that the call has seen.
        """
        one = self.state.leg(leg)
        if not one.alive and not one.waiting:
            return
        now = at
        if known_until is not None:
            at = min(at, max(known_until, *_seen(self.state.caller.record), *_seen(self.state.callee.record)))
        one.waiting = False
        code = None if one.answered else _code(reason, one, sip_code)
        self.record(leg, ended_at=at, reason=reason, sip_code=code)
        self.tell(leg, moment_of(reason, one.answered), at, code)
        if leg is Leg.CALLEE:
            self.stop_ringback()
        other = self.state.leg(leg.other)
        self.leave(leg.other, now, EndReason.RELEASED if other.answered else EndReason.CANCELLED)

    def end_undialled(self, at: int, reason: EndReason) -> None:
        """The call ends before anybody was dialled."""
        self.record(Leg.CALLER, ended_at=at, reason=reason)
        self.tell(Leg.CALLER, Moment.FAILED, at)

    def finish_if_over(self, at: int) -> None:
        state = self.state
        if state.over or state.caller.record.ended_at is None or state.callee.alive:
            return
        ended_at = end_of(state.caller.record, state.callee.record)
        state.ended_at = at if ended_at is None else ended_at
        self.do(Finish(state.told + 1, cdr_of(self.call_id, state)))

    def start_ringback(self) -> None:
        if not self.state.ringback:
            self.state.ringback = True
            self.sound_ringback()

    def stop_ringback(self) -> None:
        if self.state.ringback:
            self.state.ringback = False
            self.silence_ringback()

    def sound_ringback(self) -> None:
        self.do(StartRingback(self._over_media))

    def silence_ringback(self) -> None:
        self.do(StopRingback(self._over_media))

    @property
    def _over_media(self) -> bool:
        """Where not all of the network's sounds are wanted, none may end the tone."""
        return self.state.plan.ring_sound is not RingSound.ALL

    def tell(self, leg: Leg, moment: Moment, at: int, sip_code: int | None = None) -> None:
        self.do(Tell(self._next_seq(), Report(leg, moment, at, sip_code)))

    def tell_key(self, key: str, at: int) -> None:
        self.do(TellKey(self._next_seq(), key, at))

    def record(self, leg: Leg, **changes: object) -> None:
        one = self.state.leg(leg)
        one.record = replace(one.record, **changes)  # type: ignore[arg-type]

    def _next_seq(self) -> int:
        self.state.told += 1
        return self.state.told


def _seen(record: LegRecord) -> tuple[int, ...]:
    """The moments of a leg that were seen (0: it has had none)."""
    moments = (record.invited_at, record.ringing_at, record.answered_at, record.ended_at)
    return 0, *(at for at in moments if at is not None)


def longest_menu_s(state: CallState) -> int:
    """The longest that the menu can take, in whole seconds."""
    menu = state.plan.menu
    if menu is None or state.menu is None:
        return 0
    prompts = state.menu.prompts
    once = prompts.prompt_s + state.plan.key_wait_s
    return math.ceil(prompts.notice_s + once * (1 + menu.repeats))


def _code(reason: EndReason, leg: LegState, sip_code: int | None) -> int | None:
    """The SIP code to report for a leg that was never answered."""
    if leg.leaving is EndReason.NO_ANSWER:
        return _SIP_REQUEST_TIMEOUT  # the CANCEL was ours: what the far end said to it tells nothing
    if reason in (EndReason.CANCELLED, EndReason.WITHDRAWN):
        return _SIP_REQUEST_TERMINATED
    return sip_code
