"""The life of one call: `step(state, event) -> (state, commands)`.

Pure: no I/O, no clock, no ids of its own. It copes with any event at any time, twice or late, and holds:
each leg is dialled at most once, the call ends exactly once, and no leg is alive when it has.
"""

from __future__ import annotations

from huibo.engine.events import (
    KeyPressed,
    LegAnswered,
    LegEarlyMedia,
    LegEnded,
    LegEvent,
    LegInvited,
    LegRinging,
    PlayEnded,
)
from huibo.errors import ending_of, proves_silence
from huibo.flow import menu
from huibo.flow.settle import talk_limit_s
from huibo.flow.state import (
    CallState,
    Cancel,
    Command,
    DialExpired,
    DialFailed,
    EngineGone,
    Event,
    GuardTalk,
    HangUp,
    LegState,
    LineBusy,
    LineFree,
    MenuState,
    PlayMissed,
    PreparePrompts,
    PromptsFailed,
    PromptsReady,
    Resumed,
    ShortenPath,
    Start,
    Tick,
    Warn,
)
from huibo.flow.turn import GUARD_MARGIN_S, Turn
from huibo.model import CancelUnless, EndReason, Leg, Moment, Prompts, RingSound
from huibo.rating import affordable_lead_s

RELEASE_S = (
    30  # a leg that we asked to end and that says nothing for so long is asked again, then written off
)


_LONGEST_LEAD_S = 3600  # longer than any menu and any ringing


def step(call_id: str, state: CallState, event: Event) -> tuple[CallState, list[Command]]:
    """Take one event. Returns the state after it and what is to be done, in order.

    An event that means nothing returns the very state that was given. A new one is to be stored before any of
    the commands is carried out.
    """
    if state.over:
        return state, []
    turn = Turn(call_id, state)
    match event:
        case Start(at):
            _start(turn, at)
        case PromptsReady(at, prompts):
            _prompts_ready(turn, at, prompts)
        case PromptsFailed(at):
            if state.caller.dialled_at is None:
                turn.end_undialled(at, EndReason.PROMPT_FAILED)
        case Tick(at):
            _tick(turn, at)
        case Cancel(at, unless):
            _cancel(turn, at, unless)
        case LineFree(leg, trunk, at):
            if state.leg(leg).waiting and state.trunk(leg) == trunk:
                turn.dial_now(leg, at)
        case LineBusy(leg, trunk, at):
            if state.leg(leg).waiting and state.trunk(leg) == trunk:
                _not_taken(turn, leg, at, EndReason.TRUNK_DOWN)
        case DialFailed(leg, at):
            if state.leg(leg).progress or state.leg(leg).answered:
                turn.leave(leg, at, EndReason.LOST)  # its phone has rung all the same: never once more
            elif state.leg(leg).alive:
                _not_taken(turn, leg, at, state.leg(leg).leaving or EndReason.TRUNK_DOWN)
        case DialExpired(at):
            if not (state.caller.progress or state.caller.answered):
                turn.end(Leg.CALLER, at, state.caller.leaving or EndReason.EXPIRED)
        case EngineGone(at, known_until):
            for leg in Leg:
                turn.end(leg, at, EndReason.LOST, known_until=known_until)
        case Resumed(at):
            _resumed(turn, at)
        case PlayMissed():
            menu.on_play_missed(turn, event)
        case LegEvent():
            if state.leg(event.leg).alive:
                _leg_event(turn, event)
    turn.finish_if_over(event.at)
    if not turn.commands and turn.state == state:
        return state, []
    return turn.state, turn.commands


def deadlines(state: CallState) -> list[int]:
    """All moments (UNIX ms) at which a `Tick` would change something; empty: nothing to wait for."""
    if state.over:
        return []
    plan, caller, callee = state.plan, state.caller, state.callee
    if caller.dialled_at is None:
        return [_dispatch_due(state)]
    due = (
        *(_talk_due(state), _warn_due(state), _credit_due(state), menu.deadline(state)),
        *(_release_due(caller), _release_due(callee)),
        *(_ring_due(caller, plan.caller_ring_s), _ring_due(callee, plan.callee_ring_s)),
    )
    return [at for at in due if at is not None]


def _start(turn: Turn, at: int) -> None:
    """Dial the caller, or go on waiting for a trunk after a restart."""
    state = turn.state
    if state.caller.dialled_at is not None:
        if state.callee.waiting:
            turn.dial(Leg.CALLEE, at)
        return
    if at >= _dispatch_due(state):
        turn.end_undialled(at, EndReason.EXPIRED)
    elif state.plan.menu is not None and state.menu is None:
        turn.do(PreparePrompts(state.plan.menu))
    else:
        turn.dial(Leg.CALLER, at)


def _resumed(turn: Turn, at: int) -> None:
    """What the engine was told last may not have reached it; all of this can be said twice."""
    state = turn.state
    due = _talk_due(state)
    if due is not None:
        turn.silence_ringback()
        turn.do(GuardTalk(max(1, -(-(due - at) // 1000)) + GUARD_MARGIN_S))
        _shorten(turn)
    elif state.ringback and _lets_through(state):
        turn.sound_ringback()
    menu.on_resumed(turn, at)


def _prompts_ready(turn: Turn, at: int, prompts: Prompts) -> None:
    if turn.state.caller.dialled_at is None:
        turn.state.menu = MenuState(prompts)
        _start(turn, at)


def _not_taken(turn: Turn, leg: Leg, at: int, reason: EndReason, sip_code: int | None = None) -> None:
    """The trunk has not taken a leg, and certainly no phone rang: on to the next trunk, or the leg's end."""
    state = turn.state
    one, more = state.leg(leg), len(state.plan.route(leg)) > len(state.leg(leg).tried) + 1
    in_time = leg is Leg.CALLEE or at < _dispatch_due(state)  # nobody is rung long after the click
    if more and in_time and one.leaving is None:
        turn.give_up_trunk(leg, at, reason, sip_code)
        return
    if sip_code is None and one.tried and one.leaving is None:  # what the carriers said tells more
        last = one.tried[-1]
        reason, sip_code = last.reason, last.sip_code
    turn.end(leg, at, reason, sip_code)


def _tick(turn: Turn, at: int) -> None:
    if turn.state.caller.dialled_at is None:
        if at >= _dispatch_due(turn.state):
            turn.end_undialled(at, EndReason.EXPIRED)
        return
    menu.tick(turn, at)
    if _passed(_warn_due(turn.state), at):
        turn.state.warned = True
        turn.do(*(Warn(leg) for leg in turn.state.plan.warn))
    if _passed(_talk_due(turn.state), at):
        reason = _limit_reason(turn.state)
        turn.leave(Leg.CALLEE, at, reason)
        turn.leave(Leg.CALLER, at, reason)
    if _passed(_credit_due(turn.state), at):
        for leg in (Leg.CALLEE, Leg.CALLER):
            turn.leave(leg, at, EndReason.NO_CREDIT)
    plan = turn.state.plan
    for leg, ring_s in ((Leg.CALLER, plan.caller_ring_s), (Leg.CALLEE, plan.callee_ring_s)):
        one = turn.state.leg(leg)
        if _passed(_release_due(one), at):
            turn.do(HangUp(leg))
            turn.end(leg, at, (one.answered and one.leaving) or EndReason.LOST)
        if _passed(_ring_due(one, ring_s), at):
            turn.leave(leg, at, EndReason.NO_ANSWER)


def _cancel(turn: Turn, at: int, unless: CancelUnless) -> None:
    state = turn.state
    rang = {leg: state.leg(leg).answered or state.leg(leg).record.ringing_at is not None for leg in Leg}
    too_late = {
        CancelUnless.NEVER: False,
        CancelUnless.CALLER_RINGING: rang[Leg.CALLER],
        CancelUnless.CALLER_ANSWERED: state.caller.answered,
        CancelUnless.CALLEE_RINGING: rang[Leg.CALLEE],
        CancelUnless.CALLEE_ANSWERED: state.callee.answered,
    }
    if too_late[unless]:
        return
    if state.caller.dialled_at is None:
        turn.end_undialled(at, EndReason.WITHDRAWN)
    for leg in (Leg.CALLEE, Leg.CALLER):
        turn.leave(leg, at, EndReason.WITHDRAWN)


def _leg_event(turn: Turn, event: LegEvent) -> None:
    leg, record = event.leg, turn.state.leg(event.leg).record
    if record.invited_at is None and _proves_the_invite(turn.state.leg(leg), event):
        turn.record(leg, invited_at=event.at)
        turn.tell(leg, Moment.INVITED, event.at)
    if isinstance(event, LegRinging | LegEarlyMedia):
        turn.state.leg(leg).progress = True
    match event:
        case LegRinging() if record.ringing_at is None and record.answered_at is None:
            turn.record(leg, ringing_at=event.at)
            turn.tell(leg, Moment.RINGING, event.at)
            if leg is Leg.CALLEE and turn.state.plan.ring_sound is RingSound.FAIL:
                turn.start_ringback()
        case LegEarlyMedia() if leg is Leg.CALLEE and record.answered_at is None:
            if _lets_through(turn.state):
                turn.stop_ringback()
        case LegAnswered() if record.answered_at is None:
            _answered(turn, leg, event.at)
        case PlayEnded() if leg is Leg.CALLER and record.answered_at is not None:
            menu.on_play_ended(turn, event)
        case KeyPressed() if leg is Leg.CALLER and record.answered_at is not None:
            menu.on_key(turn, event)
        case LegEnded():
            reason = _reason(turn.state, event)
            if _no_phone_rang(turn.state.leg(leg), event):
                _not_taken(turn, leg, event.at, reason, event.sip_code)
            else:
                turn.end(leg, event.at, reason, event.sip_code, event.known_until)


def _no_phone_rang(leg: LegState, event: LegEnded) -> bool:
    silent = not leg.progress and not leg.answered and event.why is None
    return silent and proves_silence(event.sip_code)


def _proves_the_invite(leg: LegState, event: LegEvent) -> bool:
    """The INVITE has left: what is told of it, and what answers it, may overtake each other.

    Where the end was asked for, its SIP code may be the engine's own.
    """
    if isinstance(event, LegEnded):
        return event.sip_code is not None and leg.leaving is None
    return isinstance(event, LegInvited | LegRinging | LegEarlyMedia | LegAnswered)


def _answered(turn: Turn, leg: Leg, at: int) -> None:
    turn.record(leg, answered_at=at)
    turn.tell(leg, Moment.ANSWERED, at)
    if turn.state.leg(leg).leaving is not None:
        return  # the answer crossed our CANCEL; the hang-up that was asked for ends it
    if leg is Leg.CALLEE:
        turn.stop_ringback()
        turn.do(GuardTalk(talk_limit_s(turn.state) + GUARD_MARGIN_S))
        _shorten(turn)
    elif turn.state.menu is not None:
        menu.begin(turn, at)
    else:
        turn.dial(Leg.CALLEE, at)


def _shorten(turn: Turn) -> None:
    """Who is yet to hear a tone, or is recorded, has the audio go through the engine."""
    state = turn.state
    leaves = state.caller.leaving is not None or state.callee.leaving is not None
    if state.talking and not leaves and not state.plan.record and _warn_due(state) is None:
        turn.do(ShortenPath())


def _lets_through(state: CallState) -> bool:
    """Whether the network's early media is to be heard in place of our ringing tone."""
    match state.plan.ring_sound:
        case RingSound.ALL:
            return True
        case RingSound.NONE:
            return False
        case RingSound.FAIL:
            return state.callee.record.ringing_at is None


def _reason(state: CallState, event: LegEnded) -> EndReason:
    leg = state.leg(event.leg)
    if leg.answered and leg.leaving_at is not None and (event.known_until or leg.leaving_at) < leg.leaving_at:
        return EndReason.LOST  # it was asked to go because the other one was gone, and so was it
    if leg.leaving is not None:
        return leg.leaving
    if event.why is not None:
        return event.why
    if not leg.answered:
        return ending_of(event.sip_code, rang=leg.record.ringing_at is not None)
    answered_at, limit_ms = state.callee.record.answered_at, talk_limit_s(state) * 1000
    if answered_at is not None and event.at >= answered_at + limit_ms:
        return _limit_reason(state)  # the engine's own limit came first
    return EndReason.HUNG_UP


def _limit_reason(state: CallState) -> EndReason:
    agreed = talk_limit_s(state) == state.plan.max_talk_s
    return EndReason.MAX_DURATION if agreed else EndReason.NO_CREDIT


def _dispatch_due(state: CallState) -> int:
    return state.accepted_at + state.plan.dispatch_deadline_s * 1000


def _talk_due(state: CallState) -> int | None:
    answered_at = state.callee.record.answered_at
    if not state.talking or answered_at is None or state.callee.leaving or state.caller.leaving:
        return None
    return answered_at + talk_limit_s(state) * 1000


def _credit_due(state: CallState) -> int | None:
    """Until when the caller may wait for the callee: after that not even a first word would be paid for."""
    caller, budget, at = state.caller, state.plan.budget, state.caller.record.answered_at
    if at is None or not caller.alive or caller.leaving or state.callee.answered:
        return None
    if budget is None or budget.hold is None:
        return None
    longest_s = affordable_lead_s(budget, budget.hold, _LONGEST_LEAD_S)
    return at + longest_s * 1000 if longest_s < _LONGEST_LEAD_S else None


def _warn_due(state: CallState) -> int | None:
    end = _talk_due(state)
    plan = state.plan
    if end is None or state.warned or not plan.warn or not 0 < plan.warn_s < talk_limit_s(state):
        return None
    return end - plan.warn_s * 1000


def _release_due(leg: LegState) -> int | None:
    return leg.leaving_at + RELEASE_S * 1000 if leg.alive and leg.leaving_at is not None else None


def _ring_due(leg: LegState, ring_s: int) -> int | None:
    if not leg.alive or leg.dialled_at is None or leg.answered or leg.leaving is not None:
        return None
    return leg.dialled_at + ring_s * 1000


def _passed(due: int | None, at: int) -> bool:
    return due is not None and at >= due
