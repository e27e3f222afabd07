"""The state of one call and the words in which the flow machine is spoken to and answers.

Owns plain data. `CallState` is what is stored at each step: with it and with what the engine holds, a call
can be taken up again after any crash.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter

from huibo.engine.events import LegEvent
from huibo.model import (
    Attempt,
    CancelUnless,
    Cdr,
    EndReason,
    Leg,
    LegRecord,
    Menu,
    Prompts,
    Report,
    RingSound,
)
from huibo.rating import Budget


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits of one call, fixed when it is accepted. Whole seconds."""

    dispatch_deadline_s: int
    caller_ring_s: int
    callee_ring_s: int
    max_talk_s: int
    ring_sound: RingSound = RingSound.ALL
    warn_s: int = 0  # so long before the talk limit the parties of `warn` hear a tone; 0: never
    warn: tuple[Leg, ...] = ()
    menu: Menu | None = None
    key_wait_s: int = 5  # how long the caller may think after the prompt
    record: bool = False
    caller_route: tuple[str, ...] = ()  # trunks, in the order in which they are tried
    callee_route: tuple[str, ...] = ()
    paced: tuple[str, ...] = ()  # those of them that bound their calls per second
    budget: Budget | None = None  # what the call costs, None: nothing

    def route(self, leg: Leg) -> tuple[str, ...]:
        return self.caller_route if leg is Leg.CALLER else self.callee_route


@dataclass(slots=True)
class LegState:
    """One leg as the machine sees it. Times are UNIX milliseconds."""

    record: LegRecord = field(default_factory=LegRecord)
    dialled_at: int | None = None  # set before the engine is asked: from here on it is never asked again
    leaving: EndReason | None = None  # we have asked for its end, and why
    leaving_at: int | None = None
    waiting: bool = False  # for its trunk to have room; nothing is dialled
    progress: bool = False  # a 18x came: the phone may have rung
    tried: tuple[Attempt, ...] = ()  # over the trunks of its route so far, in vain

    @property
    def alive(self) -> bool:
        """The engine may hold a channel of this leg."""
        return self.dialled_at is not None and self.record.ended_at is None

    @property
    def answered(self) -> bool:
        return self.record.answered_at is not None


class MenuStage(StrEnum):
    """Where the caller is in the menu."""

    NOTICE = "notice"  # keys have no effect
    PROMPT = "prompt"
    WAITING = "waiting"  # the prompt is over, a key may still come
    OVER = "over"


@dataclass(frozen=True, slots=True)
class MenuState:
    """The menu as the machine sees it."""

    prompts: Prompts
    stage: MenuStage = MenuStage.NOTICE
    turn: int = 0  # numbers the plays; the end of an older one means nothing any more
    replays: int = 0
    since: int = 0  # when the stage began, or the play of it


@dataclass(slots=True)
class CallState:
    """One call as the machine sees it. Only a step that is being thought changes one: its own copy."""

    accepted_at: int
    plan: Plan
    caller: LegState = field(default_factory=LegState)
    callee: LegState = field(default_factory=LegState)
    ringback: bool = False  # the caller hears our ringing tone
    menu: MenuState | None = None  # once its prompts are there
    warned: bool = False
    told: int = 0  # how many moments have been reported: numbers them, whatever dies in between
    ended_at: int | None = None  # set once: the call is over, its CDR is written

    def leg(self, leg: Leg) -> LegState:
        return self.caller if leg is Leg.CALLER else self.callee

    def trunk(self, leg: Leg) -> str | None:
        """The trunk that the leg is on or is to be tried on; None when its route is at its end."""
        route, tried = self.plan.route(leg), len(self.leg(leg).tried)
        return route[tried] if tried < len(route) else None

    def copy(self) -> CallState:
        """Another one, which can be changed while this one stays as it is."""
        own = CallState(*_call_values(self))
        own.caller = LegState(*_leg_values(self.caller))
        own.callee = LegState(*_leg_values(self.callee))
        return own

    @property
    def over(self) -> bool:
        return self.ended_at is not None

    @property
    def ending(self) -> bool:
        """Nothing keeps the call alive any more: its legs are gone or have been asked to go."""
        return self.caller.leaving is not None or self.caller.record.ended_at is not None

    @property
    def talking(self) -> bool:
        return self.caller.alive and self.caller.answered and self.callee.alive and self.callee.answered


_call_values = attrgetter(*(one.name for one in fields(CallState)))
_leg_values = attrgetter(*(one.name for one in fields(LegState)))


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
class DialExpired:
    """The caller was not dialled: storing that step took until nobody may be rung any more."""

    at: int


@dataclass(frozen=True, slots=True)
class LineFree:
    """The trunk that a leg waits for takes it now."""

    leg: Leg
    trunk: str
    at: int


@dataclass(frozen=True, slots=True)
class LineBusy:
    """The trunk that a leg waits for does not take it."""

    leg: Leg
    trunk: str
    at: int


@dataclass(frozen=True, slots=True)
class PromptsReady:
    """The menu's prompts can be played."""

    at: int
    prompts: Prompts


@dataclass(frozen=True, slots=True)
class PromptsFailed:
    """The menu's prompts cannot be made."""

    at: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The customer wants the call ended, unless it has come too far."""

    at: int
    unless: CancelUnless = CancelUnless.NEVER


@dataclass(frozen=True, slots=True)
class EngineGone:
    """The engine is lost with every leg it held. `known_until`: when it was heard of last."""

    at: int
    known_until: int | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """What happened on the engine for a while has not been heard, and its legs have been compared since."""

    at: int


@dataclass(frozen=True, slots=True)
class PlayMissed:
    """A play that was to be going on is over, and its end was not heard of."""

    at: int
    turn: int


Event = (
    LegEvent
    | Start
    | Tick
    | DialFailed
    | DialExpired
    | LineFree
    | LineBusy
    | EngineGone
    | Resumed
    | PlayMissed
    | PromptsReady
    | PromptsFailed
    | Cancel
)


# Commands


@dataclass(frozen=True, slots=True)
class Seize:
    """Wait for a trunk to have room for a leg; `LineFree` or `LineBusy` follows."""

    leg: Leg
    trunk: str


@dataclass(frozen=True, slots=True)
class DialCaller:
    """`attempt`: how many trunks were tried before."""

    trunk: str
    ring_s: int
    guard_s: int
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class DialCallee:
    """Bridge the caller and dial the callee; with `record`, record what they say from here on.

    `attempt`: how many trunks were tried before; if any, the bridge and the recording may be there.
    """

    trunk: str
    ring_s: int
    guard_s: int
    record: bool = False
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class PreparePrompts:
    """Have the menu's texts made into sound; `PromptsReady` or `PromptsFailed` follows."""

    menu: Menu


@dataclass(frozen=True, slots=True)
class Play:
    """Play a file to the caller; `PlayEnded` with this turn follows."""

    path: str
    turn: int


@dataclass(frozen=True, slots=True)
class StopPlay:
    turn: int


@dataclass(frozen=True, slots=True)
class AskPlay:
    """Find out whether a play goes on; `PlayMissed` follows if it does not."""

    turn: int


@dataclass(frozen=True, slots=True)
class Warn:
    """A short tone to one party: the talk time is nearly over."""

    leg: Leg


@dataclass(frozen=True, slots=True)
class StartRingback:
    """`over_media`: it goes on over whatever the network lets be heard; else that ends it."""

    over_media: bool = False


@dataclass(frozen=True, slots=True)
class StopRingback:
    """`over_media`: as it was started."""

    over_media: bool = False


@dataclass(frozen=True, slots=True)
class GuardTalk:
    """The engine is to end both legs by itself after so many seconds."""

    seconds: int


@dataclass(frozen=True, slots=True)
class ShortenPath:
    """The parties talk and nothing is to be played or recorded: the audio may go past the engine."""


@dataclass(frozen=True, slots=True)
class HangUp:
    leg: Leg


@dataclass(frozen=True, slots=True)
class Tell:
    """Report a moment of a leg to the customer. `seq` counts from 1 within the call."""

    seq: int
    report: Report


@dataclass(frozen=True, slots=True)
class TellKey:
    """Report a key that was taken. `seq` counts with the moments'."""

    seq: int
    key: str
    at: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The call is over: write the CDR, owe its push, free the bridge. The last command of every call."""

    seq: int  # follows that of the last report
    cdr: Cdr


EngineCommand = (
    DialCaller
    | DialCallee
    | StartRingback
    | StopRingback
    | GuardTalk
    | ShortenPath
    | HangUp
    | Play
    | StopPlay
    | AskPlay
    | Warn
)
Command = EngineCommand | Seize | PreparePrompts | Tell | TellKey | Finish
