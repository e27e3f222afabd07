"""The life of one call: `step(state, event) -> (state, commands)`.

Pure: no I/O, no clock, no ids of its own. It copes with any event at any time, twice or late, and holds:
each leg is dialled at most once, the call ends exactly once, and no leg is alive when it has.
"""

from __future__ import annotations

from dataclasses import replace

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
from huibo.errors import ending_of
from huibo.flow import menu
from huibo.flow.state import (
    CallState,
    Cancel,
    Command,
    DialFailed,
    EngineGone,
    Event,
    GuardTalk,
    HangUp,
    MenuState,
    PreparePrompts,
    PromptsFailed,
    PromptsReady,
    Start,
    Tick,
    Warn,
)
from huibo.flow.turn import GUARD_MARGIN_S, Turn
from huibo.model import CancelUnless, EndReason, Leg, Moment, Prompts, RingSound

RELEASE_S = (
    30  # a leg that we asked to end and that says nothing for so long is asked again, then written off
)


def step(call_id: str, state: CallState, event: Event) -> tuple[CallState, list[Command]]:
    """Take one event. Returns the new state and what is to be done, in order.

    The state is to be stored before any of the commands is carried out.
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
        case DialFailed(leg, at):
            turn.end(leg, at, state.leg(leg).leaving or EndReason.TRUNK_DOWN)
        case EngineGone(at):
            for leg in Leg:
                turn.end(leg, at, EndReason.LOST)
        case LegEvent():
            if state.leg(event.leg).alive:
                _leg_event(turn, event)
    turn.finish_if_over(event.at)
    return turn.state, turn.commands


def deadlines(state: CallState) -> list[int]:
    """All moments (UNIX ms) at which a `Tick` would change something; empty: nothing to wait for."""
    if state.over:
        return []
    if state.caller.dialled_at is None:
        return [_dispatch_due(state)]
    due = [_talk_due(state), _warn_due(state), menu.deadline(state)]
    due += [_release_due(state, leg) for leg in Leg]
    due += [_ring_due(state, leg) for leg in Leg]
    return [at for at in due if at is not None]


def _start(turn: Turn, at: int) -> None:
    state = turn.state
    if state.caller.dialled_at is not None:
        return
    if at >= _dispatch_due(state):
        turn.end_undialled(at, EndReason.EXPIRED)
    elif state.plan.menu is not None and state.menu is None:
        turn.do(PreparePrompts(state.plan.menu))
    else:
        turn.dial_caller(at, menu_s=menu.longest_s(state, state.menu.prompts) if state.menu else 0)


def _prompts_ready(turn: Turn, at: int, prompts: Prompts) -> None:
    if turn.state.caller.dialled_at is None:
        turn.state = replace(turn.state, menu=MenuState(prompts))
        _start(turn, at)


def _tick(turn: Turn, at: int) -> None:
    if turn.state.caller.dialled_at is None:
        if at >= _dispatch_due(turn.state):
            turn.end_undialled(at, EndReason.EXPIRED)
        return
    menu.tick(turn, at)
    if _passed(_warn_due(turn.state), at):
        turn.state = replace(turn.state, warned=True)
        turn.do(*(Warn(leg) for leg in turn.state.plan.warn))
    if _passed(_talk_due(turn.state), at):
        turn.leave(Leg.CALLEE, at, EndReason.MAX_DURATION)
        turn.leave(Leg.CALLER, at, EndReason.MAX_DURATION)
    for leg in Leg:
        if _passed(_release_due(turn.state, leg), at):
            turn.do(HangUp(leg))
            state = turn.state.leg(leg)
            turn.end(leg, at, (state.answered and state.leaving) or EndReason.LOST)
        if _passed(_ring_due(turn.state, leg), at):
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
    if record.invited_at is None and _proves_the_invite(event):
        turn.record(leg, invited_at=event.at)
        turn.tell(leg, Moment.INVITED, event.at)
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
        case PlayEnded() if leg is Leg.CALLER:
            menu.on_play_ended(turn, event)
        case KeyPressed() if leg is Leg.CALLER and record.answered_at is not None:
            menu.on_key(turn, event)
        case LegEnded():
            turn.end(leg, event.at, _reason(turn.state, event), event.sip_code)


def _proves_the_invite(event: LegEvent) -> bool:
    """The INVITE has left: what is told of it, and what answers it, may overtake each other."""
    if isinstance(event, LegEnded):
        return event.sip_code is not None
    return isinstance(event, LegInvited | LegRinging | LegEarlyMedia | LegAnswered)


def _answered(turn: Turn, leg: Leg, at: int) -> None:
    turn.record(leg, answered_at=at)
    turn.tell(leg, Moment.ANSWERED, at)
    if turn.state.leg(leg).leaving is not None:
        return  # the answer crossed our CANCEL; the hang-up that was asked for ends it
    if leg is Leg.CALLEE:
        turn.stop_ringback()
        turn.do(GuardTalk(turn.state.plan.max_talk_s + GUARD_MARGIN_S))
    elif turn.state.menu is not None:
        menu.begin(turn, at)
    else:
        turn.dial_callee(at)


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
    if leg.leaving is not None:
        return leg.leaving
    if event.why is not None:
        return event.why
    if not leg.answered:
        return ending_of(event.sip_code, rang=leg.record.ringing_at is not None)
    answered_at, limit_ms = state.callee.record.answered_at, state.plan.max_talk_s * 1000
    if answered_at is not None and event.at >= answered_at + limit_ms:
        return EndReason.MAX_DURATION  # the engine's own limit came first
    return EndReason.HUNG_UP


def _dispatch_due(state: CallState) -> int:
    return state.accepted_at + state.plan.dispatch_deadline_s * 1000


def _talk_due(state: CallState) -> int | None:
    answered_at = state.callee.record.answered_at
    if not state.talking or answered_at is None or state.callee.leaving or state.caller.leaving:
        return None
    return answered_at + state.plan.max_talk_s * 1000


def _warn_due(state: CallState) -> int | None:
    end = _talk_due(state)
    plan = state.plan
    if end is None or state.warned or not plan.warn or not 0 < plan.warn_s < plan.max_talk_s:
        return None
    return end - plan.warn_s * 1000


def _release_due(state: CallState, leg: Leg) -> int | None:
    one = state.leg(leg)
    return one.leaving_at + RELEASE_S * 1000 if one.alive and one.leaving_at is not None else None


def _ring_due(state: CallState, leg: Leg) -> int | None:
    one, plan = state.leg(leg), state.plan
    if not one.alive or one.dialled_at is None or one.answered or one.leaving is not None:
        return None
    return one.dialled_at + (plan.caller_ring_s if leg is Leg.CALLER else plan.callee_ring_s) * 1000


def _passed(due: int | None, at: int) -> bool:
    return due is not None and at >= due
