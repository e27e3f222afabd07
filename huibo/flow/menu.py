"""What happens between the caller's answer and the callee's dial when the call has a menu.

Pure: moves on a `Turn`. First the notice, during which keys mean nothing, then the prompt, which a key cuts
off, then a while to think. A key does what the menu says; too many replays end the call.
"""

from __future__ import annotations

from dataclasses import replace

from huibo.engine.events import KeyPressed, PlayEnded
from huibo.flow.state import AskPlay, CallState, MenuStage, MenuState, Play, PlayMissed, StopPlay
from huibo.flow.turn import Turn
from huibo.model import Choice, EndReason, Leg

_OVERDUE_MS = 5000  # an end that has not been reported so long after it must have been
_IN_PLAY = (MenuStage.NOTICE, MenuStage.PROMPT)
_TAKES_KEYS = (MenuStage.PROMPT, MenuStage.WAITING)


def begin(turn: Turn, at: int) -> None:
    """The caller has answered."""
    menu = _menu(turn)
    if menu.prompts.notice is None:
        _prompt(turn, at)
    else:
        _play(turn, MenuStage.NOTICE, menu.prompts.notice, at)


def on_play_ended(turn: Turn, event: PlayEnded) -> None:
    menu = turn.state.menu
    if menu is None or _gone(turn):
        return
    if menu.stage in _IN_PLAY and event.turn == menu.turn:
        _go_on(turn, event.at)


def on_key(turn: Turn, event: KeyPressed) -> None:
    menu, plan = turn.state.menu, turn.state.plan.menu
    if menu is None or plan is None or menu.stage not in _TAKES_KEYS or _gone(turn):
        return
    turn.tell_key(event.key, event.at)
    _stop(turn)
    match plan.choice(event.key):
        case Choice.CONNECT:
            _set(turn, stage=MenuStage.OVER)
            turn.dial(Leg.CALLEE, event.at)
        case Choice.REPLAY:
            _replay(turn, event.at)
        case Choice.RELEASE:
            _release(turn, event.at)


def on_resumed(turn: Turn, at: int) -> None:
    """Nobody was there for a while: what is to be heard may be over, and a key may have been in vain."""
    menu = turn.state.menu
    if menu is None or not turn.state.caller.answered or _gone(turn):
        return
    if menu.stage in _IN_PLAY:
        turn.do(AskPlay(menu.turn))
    elif menu.stage is MenuStage.WAITING:
        _prompt(turn, at)


def on_play_missed(turn: Turn, event: PlayMissed) -> None:
    """The notice has been heard; the prompt is said once more, which counts as no replay."""
    menu = turn.state.menu
    if menu is not None and menu.stage in _IN_PLAY and event.turn == menu.turn and not _gone(turn):
        _prompt(turn, event.at)


def deadline(state: CallState) -> int | None:
    """When the menu goes on by itself (UNIX ms), None when it does not.

    The caller has thought long enough, or the end of a play has not been heard of (it may have been missed).
    """
    menu, caller = state.menu, state.caller
    if menu is None or not caller.answered or caller.leaving is not None or not caller.alive:
        return None
    match menu.stage:
        case MenuStage.NOTICE:
            return menu.since + round(menu.prompts.notice_s * 1000) + _OVERDUE_MS
        case MenuStage.PROMPT:
            return menu.since + round(menu.prompts.prompt_s * 1000) + _OVERDUE_MS
        case MenuStage.WAITING:
            return menu.since + state.plan.key_wait_s * 1000
        case MenuStage.OVER:
            return None


def tick(turn: Turn, at: int) -> None:
    due = deadline(turn.state)
    if due is not None and at >= due:
        _go_on(turn, at)


def _go_on(turn: Turn, at: int) -> None:
    """What is on has come to its end."""
    match _menu(turn).stage:
        case MenuStage.NOTICE:
            _prompt(turn, at)
        case MenuStage.PROMPT:
            _wait(turn, at)
        case MenuStage.WAITING:
            _replay(turn, at)


def _replay(turn: Turn, at: int) -> None:
    menu, plan = _menu(turn), turn.state.plan.menu
    if plan is None or menu.replays >= plan.repeats:
        _release(turn, at)
        return
    _set(turn, replays=menu.replays + 1)
    _prompt(turn, at)


def _prompt(turn: Turn, at: int) -> None:
    prompt = _menu(turn).prompts.prompt
    if prompt is None:
        _wait(turn, at)
    else:
        _play(turn, MenuStage.PROMPT, prompt, at)


def _play(turn: Turn, stage: MenuStage, path: str, at: int) -> None:
    number = _menu(turn).turn + 1
    _set(turn, stage=stage, turn=number, since=at)
    turn.do(Play(path, number))


def _wait(turn: Turn, at: int) -> None:
    _set(turn, stage=MenuStage.WAITING, since=at)


def _release(turn: Turn, at: int) -> None:
    _set(turn, stage=MenuStage.OVER)
    turn.leave(Leg.CALLER, at, EndReason.MENU)


def _stop(turn: Turn) -> None:
    menu = _menu(turn)
    if menu.stage in _IN_PLAY:
        turn.do(StopPlay(menu.turn))


def _gone(turn: Turn) -> bool:
    """The caller is on the way out: nothing is to be begun any more."""
    return turn.state.caller.leaving is not None or not turn.state.caller.alive


def _menu(turn: Turn) -> MenuState:
    assert turn.state.menu is not None
    return turn.state.menu


def _set(turn: Turn, /, **changes: object) -> None:
    turn.state.menu = replace(_menu(turn), **changes)  # type: ignore[arg-type]
