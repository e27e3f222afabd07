"""Runs one call: a mailbox, first in first out, and whoever carries the machine's commands out.

Each step is stored before its commands are carried out; that a phone rings, when nobody is to be told, soon
after. Decides nothing: that is the machine's. Never asks the engine for a dial twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection

from huibo.clock import Clock
from huibo.engine.events import LegEarlyMedia, LegInvited, LegRinging, PlayEnded
from huibo.errors import EngineError, OutcomeUnknown, PromptError
from huibo.flow.diary import tell
from huibo.flow.machine import deadlines, step
from huibo.flow.state import (
    AskPlay,
    CallState,
    Cancel,
    Command,
    DialCallee,
    DialCaller,
    DialExpired,
    DialFailed,
    EngineCommand,
    EngineGone,
    Event,
    Finish,
    GuardTalk,
    HangUp,
    LineBusy,
    LineFree,
    Play,
    PlayMissed,
    PreparePrompts,
    PromptsFailed,
    PromptsReady,
    Resumed,
    Seize,
    ShortenPath,
    StartRingback,
    StopPlay,
    StopRingback,
    Tell,
    TellKey,
    Tick,
    Warn,
)
from huibo.model import Call, CallResult, CancelUnless, Cdr, EndReason, Leg, Menu, Push
from huibo.ports import Engine, Lines, Notifier, PromptMaker
from huibo.storage.calls import NotOurs, save_step
from huibo.storage.database import Database
from huibo.storage.outbox import Handed
from huibo.storage.recordings import add_recording

log = structlog.get_logger()

_STORE_RETRY_S = 0.5
_LINGER_MS = 200  # so long what nothing depends on waits for company on its way into the database
_DIALS: dict[type[Command], Leg] = {DialCaller: Leg.CALLER, DialCallee: Leg.CALLEE}


@dataclass(frozen=True, slots=True)
class Services:
    """What a runner works with."""

    engine: Engine
    database: Database
    clock: Clock
    lines: Lines
    notifier: Notifier
    prompts: PromptMaker
    pushes_owed: Callable[[Handed], None]  # gives the deliverer what it is to deliver
    recording_owed: Callable[[], None]  # and the finisher of recordings
    stepped: Callable[[CallState, CallState], None]  # whoever learns from each step; must not block
    call_over: Callable[
        [Call, CallState, Cdr], None
    ]  # tells whoever learns from how calls end; must not block


class CallRunner:
    """One live call. `run` returns when the call is over."""

    def __init__(self, call: Call, state: CallState, services: Services, resumed: bool = False) -> None:
        """`resumed`: what became of its legs meanwhile is not known yet; it is told by `Resumed`."""
        self._blind = resumed and state.caller.dialled_at is not None
        self.call = call
        self.state = state
        self._services = services
        self._mailbox: list[Event] = []
        self._closed = False  # nothing more is put into it
        self._woken: asyncio.Future[None] | None = None  # what `run` waits for when the mailbox is empty
        self._due: int | None = None  # when `_timer` wakes it (UNIX ms)
        self._timer: asyncio.TimerHandle | None = None
        self._unsaved_at: int | None = None  # since when the state is not what is stored (UNIX ms)
        self._asked: list[tuple[Cancel, asyncio.Future[bool | None]]] = []
        self._beside: list[asyncio.Task[None]] = []
        self._dialling: Collection[Leg] = ()

    @property
    def _log(self) -> structlog.typing.FilteringBoundLogger:
        logger: structlog.typing.FilteringBoundLogger = log.bind(call=self.call.call_id)
        return logger

    def held(self, leg: Leg) -> int | None:
        """Since when the engine should hold a channel of this leg (UNIX ms); None: it need not."""
        state = self.state.leg(leg)
        return state.dialled_at if state.alive and leg not in self._dialling else None

    def hand_over(self) -> None:
        """End `run` after what is in the mailbox, steps with their commands; the rest is for others."""
        self._closed = True
        self._wake()

    def post(self, event: Event) -> None:
        """Put an event into the mailbox."""
        if not self._closed:
            self._mailbox.append(event)
            self._wake()

    async def cancel(self, unless: CancelUnless) -> bool | None:
        """Have the call ended unless it has come too far: whether it is being ended; None: it is over."""
        event, answer = Cancel(self._services.clock.now_ms(), unless), asyncio.Future[bool | None]()
        self._asked.append((event, answer))
        self.post(event)
        return await answer

    async def run(self) -> None:
        try:
            while not self.state.over and (events := await self._next_events()):
                await self._take(events)
                for event in events:
                    self._answer(event)
            if self._unsaved_at is not None:
                await self._store(self.state, [], [])
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for task in self._beside:
                task.cancel()
            for _, answer in self._asked:
                if not answer.done():
                    answer.set_result(None)

    async def _take(self, events: list[Event]) -> None:
        """Think, store, act. What has come together costs one step."""
        before = state = self.state
        commands: list[Command] = []
        for event in events:
            self._blind = self._blind and not isinstance(event, Resumed | EngineGone)
            state, more = step(self.call.call_id, state, event)
            commands += more
        if state is before and not commands and not (self._unsaved_at and isinstance(events[0], Tick)):
            return
        owed = self._owed(commands)
        if owed or not _can_wait(events, commands):
            await self._store(state, commands, owed)
        elif self._unsaved_at is None:
            self._unsaved_at = self._services.clock.now_ms()
        self.state = state
        self._dialling = [_DIALS[type(command)] for command in commands if type(command) in _DIALS]
        self._services.stepped(before, state)
        tell(self._log, before, state, commands)
        try:
            for command in commands:
                await self._carry_out(command)
        finally:
            self._dialling = ()

    def _answer(self, event: Event) -> None:
        for asked in [asked for asked in self._asked if asked[0] is event]:
            self._asked.remove(asked)
            if not asked[1].done():
                asked[1].set_result(self.state.ending)

    async def _next_events(self) -> list[Event]:
        """What is in the mailbox, or a tick when a deadline comes first; none: the call is handed over."""
        if not self._mailbox and not self._closed:
            self._set_timer()
            self._woken = asyncio.get_running_loop().create_future()
            await self._woken
            if not self._mailbox and not self._closed:
                return [Tick(self._services.clock.now_ms())]
        events, self._mailbox = self._mailbox, []
        return events

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def _set_timer(self) -> None:
        """Be woken at the earliest deadline."""
        # a phone may have been answered unseen: a timer that ran out meanwhile must not end that call
        moments = [] if self._blind else deadlines(self.state)
        if self._unsaved_at is not None:
            moments.append(self._unsaved_at + _LINGER_MS)
        due = min(moments, default=None)
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due, self._timer = due, None
        if due is not None:
            delay_s = max(0, due - self._services.clock.now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._time_up)

    def _time_up(self) -> None:
        self._due = self._timer = None  # who is in the midst of a step sets it anew before he waits
        self._wake()

    async def _store(self, state: CallState, commands: Sequence[Command], owed: Sequence[Push]) -> None:
        """Write the step and the pushes it owes. Tries until the database takes it: a step is never lost."""
        cdr = next((command.cdr for command in commands if isinstance(command, Finish)), None)
        talk_ms = self._recorded_ms(cdr)
        at = self._services.clock.now_ms()

        again = False
        handed: Handed | None = None  # by the last try that wrote anything

        def work(connection: Connection) -> None:
            nonlocal handed
            stored = save_step(connection, self.call, state, owed, cdr, at, again)
            if stored is None:
                return
            handed = stored
            if talk_ms is not None:
                add_recording(connection, self.call.call_id, self.call.app_id, talk_ms, at)

        while True:
            try:
                await self._services.database.write(work, of=None if cdr is None else self.call.app_id)
                break
            except NotOurs:
                raise
            except Exception as error:
                if not again:  # once: hundreds of calls may be waiting for as long as this takes
                    self._log.error("step not stored, trying again", reason=str(error).partition("\n")[0])
                again = True  # a commit whose answer was lost may have happened
                await asyncio.sleep(_STORE_RETRY_S)
        self._unsaved_at = None
        if again:
            self._log.warning("step stored late", late_ms=self._services.clock.now_ms() - at)
        if owed and handed is not None:
            self._services.pushes_owed(handed)
        if talk_ms is not None:
            self._services.recording_owed()
        if cdr is not None:
            self._services.call_over(self.call, state, cdr)

    def _recorded_ms(self, cdr: Cdr | None) -> int | None:
        """How long the recording of a finished call must be; None: there is none to finish."""
        if cdr is None or not self.call.record or cdr.result is not CallResult.TALKED:
            return None
        assert cdr.callee.answered_at is not None
        assert cdr.caller.ended_at is not None
        return max(0, cdr.caller.ended_at - cdr.callee.answered_at)  # it ends with the caller's channel

    def _owed(self, commands: list[Command]) -> list[Push]:
        notifier, owed = self._services.notifier, []
        for command in commands:
            if isinstance(command, Tell):
                owed += notifier.on_moment(self.call, command.seq, command.report)
            elif isinstance(command, TellKey):
                owed += notifier.on_key(self.call, command.seq, command.key)
            elif isinstance(command, Finish):
                owed += notifier.on_cdr(self.call, command.seq, command.cdr)
        return owed

    async def _carry_out(self, command: Command) -> None:
        try:
            match command:
                case DialCaller() if self._too_late():
                    self.post(DialExpired(self._services.clock.now_ms()))
                case Finish():
                    await self._clear_up()
                case Tell() | TellKey():
                    pass  # stored with the step: the deliverer does the rest
                case PreparePrompts(menu):
                    self._aside(self._prepare(menu))
                case Seize(leg, trunk):
                    self._aside(self._seize(leg, trunk))
                case _:
                    await self._ask_engine(command)
        except OutcomeUnknown as error:
            # It may have happened. A dial is never repeated; the engine's events, a deadline or the next
            # stock-taking will tell.
            self._log.warning("outcome unknown", command=type(command).__name__, reason=str(error))
        except EngineError as error:
            self._log.warning("engine refused", command=type(command).__name__, reason=str(error))
            if type(command) in _DIALS:
                self.post(DialFailed(_DIALS[type(command)], self._services.clock.now_ms()))
            elif isinstance(command, Play):
                now = self._services.clock.now_ms()
                self.post(PlayEnded(self.call.call_id, Leg.CALLER, now, command.turn, failed=True))

    def _too_late(self) -> bool:
        """Whether nobody may be rung any more: storing the step took long, or this process stood still."""
        waited_ms = self._services.clock.now_ms() - self.state.accepted_at
        return waited_ms >= self.state.plan.dispatch_deadline_s * 1000

    async def _clear_up(self) -> None:
        """Nothing of the call is to stay on the engine; what is out of reach now it ends later."""
        for leg in Leg:
            one = self.state.leg(leg)
            if one.record.reason is EndReason.LOST and one.dialled_at is not None:
                with suppress(EngineError):
                    await self._services.engine.hang_up(self.call.call_id, leg)
        if self.state.callee.dialled_at is not None or self.state.callee.tried:
            await self._services.engine.release(self.call.call_id)

    async def _prepare(self, menu: Menu) -> None:
        """Beside the mailbox: a voice may take its time while the caller's dispatch deadline runs."""
        try:
            prompts = await self._services.prompts.prepare(menu)
        except PromptError as error:
            self._log.error("prompts not made", reason=str(error))
            self.post(PromptsFailed(self._services.clock.now_ms()))
        else:
            self.post(PromptsReady(self._services.clock.now_ms(), prompts))

    async def _seize(self, leg: Leg, trunk: str) -> None:
        """Beside the mailbox: a cancel or a hang-up is not to wait for a trunk."""
        try:
            await self._services.lines.seize(trunk)
        except EngineError as error:
            self._log.warning("trunk not seized", trunk=trunk, reason=str(error))
            self.post(LineBusy(leg, trunk, self._services.clock.now_ms()))
        else:
            self.post(LineFree(leg, trunk, self._services.clock.now_ms()))

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._beside.append(task)
        task.add_done_callback(self._beside.remove)

    async def _ask_engine(self, command: EngineCommand) -> None:
        engine, call_id = self._services.engine, self.call.call_id
        match command:
            case DialCaller(trunk, ring_s, guard_s, attempt):
                on = trunk or self.call.caller_trunk  # a call accepted by an older version has no route
                await engine.dial_caller(self.call, on, ring_s, guard_s, attempt)
            case DialCallee(trunk, ring_s, guard_s, record, attempt):
                on = trunk or self.call.callee_trunk
                await engine.dial_callee(self.call, on, ring_s, guard_s, record, attempt)
            case Play(path, turn):
                await engine.play(call_id, turn, path)
            case StopPlay(turn):
                await engine.stop_play(call_id, turn)
            case AskPlay(turn):
                if not await engine.plays(call_id, turn):
                    self.post(PlayMissed(self._services.clock.now_ms(), turn))
            case Warn(leg):
                await engine.warn(call_id, leg)
            case StartRingback(over_media):
                await engine.start_ringback(call_id, over_media)
            case StopRingback(over_media):
                await engine.stop_ringback(call_id, over_media)
            case GuardTalk(seconds):
                await engine.guard_talk(call_id, seconds)
            case ShortenPath():
                await engine.shorten_path(call_id, self._trunks())
            case HangUp(leg):
                await engine.hang_up(call_id, leg)

    def _trunks(self) -> tuple[str, str]:
        """Those that the legs go over."""
        state, call = self.state, self.call
        return state.trunk(Leg.CALLER) or call.caller_trunk, state.trunk(Leg.CALLEE) or call.callee_trunk


def _can_wait(events: Sequence[Event], commands: Sequence[Command]) -> bool:
    """Whether only a phone is on its way to be answered, and nothing is done about it.

    A process that takes the call up again learns from the engine what a phone does.
    """
    seen = all(isinstance(event, LegInvited | LegRinging | LegEarlyMedia) for event in events)
    return seen and all(isinstance(command, Tell) for command in commands)
