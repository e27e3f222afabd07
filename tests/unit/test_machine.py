"""The flow machine: single stories by hand, and every interleaving that hypothesis can think of."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
from huibo.flow.machine import RELEASE_S, deadlines, step
from huibo.flow.state import (
    AskPlay,
    CallState,
    Cancel,
    Command,
    DialCallee,
    DialCaller,
    DialFailed,
    EngineGone,
    Event,
    Finish,
    GuardTalk,
    HangUp,
    LineBusy,
    LineFree,
    Plan,
    Play,
    PlayMissed,
    PreparePrompts,
    PromptsFailed,
    PromptsReady,
    Resumed,
    ShortenPath,
    Start,
    StartRingback,
    StopPlay,
    StopRingback,
    Tell,
    TellKey,
    Tick,
    Warn,
)
from huibo.model import (
    CallResult,
    CancelUnless,
    Cdr,
    Choice,
    EndReason,
    Leg,
    Menu,
    Moment,
    Prompts,
    RingSound,
)
from huibo.rating import Budget, Rate

PLAN = Plan(
    dispatch_deadline_s=30,
    caller_ring_s=60,
    callee_ring_s=60,
    max_talk_s=1800,
    caller_route=("t",),
    callee_route=("t",),
)
A, B = Leg.CALLER, Leg.CALLEE
ACCEPTED = 1_000_000


class Story:
    """Tells a call to the machine, event by event, and keeps what came of it."""

    def __init__(self, plan: Plan = PLAN) -> None:
        self.now = ACCEPTED
        self.state = CallState(ACCEPTED, plan)
        self.commands: list[Command] = []
        self.resumes = 0

    def take(self, event: Event) -> list[Command]:
        given, as_given = self.state, deepcopy(self.state)
        self.state, commands = step("c", given, event)
        assert given == as_given, "a step changes only what is its own"
        self.commands += commands
        return commands

    def after(self, ms: int) -> Story:
        self.now += ms
        return self

    def leg(self, kind: type[LegEvent], leg: Leg, **more: object) -> list[Command]:
        return self.take(kind("c", leg, self.now, **more))

    def start(self) -> Story:
        self.take(Start(self.now))
        return self

    def invited_ringing(self, leg: Leg) -> Story:
        self.leg(LegInvited, leg)
        self.after(100).leg(LegRinging, leg)
        return self

    def answered(self, leg: Leg) -> Story:
        self.invited_ringing(leg)
        self.after(1000).leg(LegAnswered, leg)
        return self

    @property
    def told(self) -> list[str]:
        lines = []
        for command in self.commands:
            if isinstance(command, Tell):
                r = command.report
                lines.append(f"{r.leg} {r.moment}{f' {r.sip_code}' if r.sip_code else ''}")
            elif isinstance(command, TellKey):
                lines.append(f"key {command.key}")
        return lines

    @property
    def cdr(self) -> Cdr:
        (finish,) = [c for c in self.commands if isinstance(c, Finish)]
        assert self.commands[-1] == finish
        seqs = [c.seq for c in self.commands if isinstance(c, Tell | TellKey | Finish)]
        assert seqs == list(range(1, len(seqs) + 1))
        return finish.cdr


def test_a_conversation_that_the_callee_ends() -> None:
    story = Story().start()
    assert story.commands == [DialCaller("t", 60, 60 + 60 + 1800 + 2)]
    story.answered(A)
    assert story.commands[-2:] == [DialCallee("t", 60, 60 + 1800 + 2), StartRingback()]
    story.answered(B)
    assert story.commands[-3:] == [StopRingback(), GuardTalk(1802), ShortenPath()]
    assert deadlines(story.state) == [story.now + 1_800_000]
    assert story.after(7_000).leg(LegEnded, B)[-1] == HangUp(A)
    story.after(5).leg(LegEnded, A)
    assert story.told == [
        "a invited", "a ringing", "a answered",
        "b invited", "b ringing", "b answered", "b hung_up", "a hung_up",
    ]  # fmt: skip
    assert story.cdr.result is CallResult.TALKED
    assert story.cdr.talk_s == 8
    assert story.cdr.caller.reason is EndReason.RELEASED
    assert story.cdr.callee.reason is EndReason.HUNG_UP


def test_billed_time_is_the_mean_of_both_answered_times_rounded_up() -> None:
    """The one full sample that is known: answered at 658 and 673, ended at 678, billed 13."""
    story = Story().start()
    story.now = 1_658_000
    story.leg(LegAnswered, A)
    story.after(15_000).leg(LegAnswered, B)
    story.after(5_000).leg(LegEnded, A)
    story.leg(LegEnded, B)
    assert story.cdr.billed_s == 13
    assert story.cdr.talk_s == 5


@pytest.mark.parametrize(
    ("rang", "sip", "reason", "told", "result"),
    [
        (True, 603, EndReason.DECLINED, "refused 603", CallResult.CALLER_NO_ANSWER),
        (False, 486, EndReason.BUSY, "refused 486", CallResult.CALLER_UNREACHED),
        (False, 404, EndReason.NOT_FOUND, "failed 404", CallResult.CALLER_UNREACHED),
        (False, 480, EndReason.UNAVAILABLE, "failed 480", CallResult.CALLER_UNREACHED),
        (True, 480, EndReason.NO_ANSWER, "failed 480", CallResult.CALLER_NO_ANSWER),
        (False, 408, EndReason.NO_RESPONSE, "failed 408", CallResult.CALLER_UNREACHED),
        (False, 503, EndReason.CARRIER_FAULT, "failed 503", CallResult.CALLER_UNREACHED),
        (True, 503, EndReason.CARRIER_FAULT, "failed 503", CallResult.CALLER_NO_ANSWER),
        (False, 403, EndReason.FORBIDDEN, "failed 403", CallResult.CALLER_UNREACHED),
        (False, None, EndReason.LOST, "failed", CallResult.UNKNOWN),
    ],
)
def test_a_caller_who_is_not_reached(
    rang: bool, sip: int | None, reason: EndReason, told: str, result: CallResult
) -> None:
    story = Story().start()
    if rang:
        story.invited_ringing(A)
    story.after(50).leg(LegEnded, A, sip_code=sip)
    assert story.told[-1] == f"a {told}"
    assert story.cdr.caller.reason is reason
    assert story.cdr.result is result
    assert story.cdr.billed_s == 0
    assert not any(isinstance(c, DialCallee) for c in story.commands)


@pytest.mark.parametrize(
    ("rang", "sip", "told", "result"),
    [
        (True, 603, "refused 603", CallResult.CALLEE_NO_ANSWER),
        (False, 486, "refused 486", CallResult.CALLEE_UNREACHED),
        (False, 480, "failed 480", CallResult.CALLEE_UNREACHED),
    ],
)
def test_a_callee_who_is_not_reached_releases_the_caller(
    rang: bool, sip: int, told: str, result: CallResult
) -> None:
    story = Story().start().answered(A)
    if rang:
        story.invited_ringing(B)
    story.after(50).leg(LegEnded, B, sip_code=sip)
    assert story.commands[-2:] == [StopRingback(), HangUp(A)]
    story.after(5).leg(LegEnded, A)
    assert story.told[-2:] == [f"b {told}", "a hung_up"]
    assert story.cdr.result is result


def test_the_caller_hangs_up_while_the_callee_rings() -> None:
    story = Story().start().answered(A).invited_ringing(B)
    story.after(50).leg(LegEnded, A)
    assert story.commands[-1] == HangUp(B)
    story.after(5).leg(LegEnded, B, sip_code=487)
    assert story.told[-2:] == ["a hung_up", "b failed 487"]
    assert story.cdr.result is CallResult.CALLEE_NO_ANSWER


def test_early_media_silences_our_ringing_tone_once() -> None:
    story = Story().start().answered(A)
    story.leg(LegInvited, B)
    assert story.leg(LegEarlyMedia, B) == [StopRingback()]
    assert story.leg(LegEarlyMedia, B) == []


@pytest.mark.parametrize(
    ("kind", "more", "told"),
    [
        (LegRinging, {}, ["a invited", "a ringing"]),
        (LegAnswered, {}, ["a invited", "a answered"]),
        (LegEnded, {"sip_code": 486}, ["a invited", "a refused 486"]),
        (LegEnded, {}, ["a failed"]),
    ],
)
def test_what_answers_an_invite_proves_it(
    kind: type[LegEvent], more: dict[str, int], told: list[str]
) -> None:
    story = Story().start()
    story.after(10).leg(kind, A, **more)
    assert story.told == told
    assert (story.state.caller.record.invited_at == story.now) == (len(told) > 1)
    story.leg(LegInvited, A)
    assert story.told == told


@pytest.mark.parametrize("leg", [A, B])
def test_nobody_answers_in_time(leg: Leg) -> None:
    story = Story().start()
    if leg is B:
        story.answered(A)
    story.invited_ringing(leg)
    (due,) = deadlines(story.state)
    assert story.take(Tick(due - 1)) == []
    assert story.take(Tick(due)) == [HangUp(leg)]
    assert story.take(Tick(due + 1)) == []
    story.now = due
    story.after(5).leg(LegEnded, leg, sip_code=480)
    assert f"{leg} failed 408" in story.told
    assert story.state.leg(leg).record.reason is EndReason.NO_ANSWER


def test_talk_time_is_cut_at_the_limit() -> None:
    story = Story().start().answered(A).answered(B)
    (due,) = deadlines(story.state)
    assert story.take(Tick(due)) == [HangUp(B), HangUp(A)]
    story.now = due
    story.after(5).leg(LegEnded, A)
    story.leg(LegEnded, B)
    assert story.told[-2:] == ["a hung_up", "b hung_up"]
    assert {story.cdr.caller.reason, story.cdr.callee.reason} == {EndReason.MAX_DURATION}


def test_a_leg_that_never_confirms_its_end_is_written_off() -> None:
    story = Story().start().answered(A).answered(B)
    story.leg(LegEnded, A)
    story.now += RELEASE_S * 1000
    commands = story.take(Tick(story.now))
    assert commands[0] == HangUp(B)
    assert story.cdr.result is CallResult.TALKED


@pytest.mark.parametrize("make", [Start, Tick])
def test_a_call_is_never_dialled_late(make: type[Start] | type[Tick]) -> None:
    story = Story().after(30_000)
    story.take(make(story.now))
    assert story.told == ["a failed"]
    assert story.cdr.caller.reason is EndReason.EXPIRED
    assert story.cdr.result is CallResult.UNKNOWN


def test_a_trunk_that_cannot_be_used_fails_the_leg_without_an_invite() -> None:
    story = Story().start()
    story.take(DialFailed(A, story.now))
    assert story.told == ["a failed"]
    assert story.cdr.result is CallResult.CALLER_UNREACHED


def test_the_engine_dies_in_a_conversation() -> None:
    story = Story().start().answered(A).answered(B)
    story.after(4_000).take(EngineGone(story.now))
    assert story.cdr.result is CallResult.TALKED
    assert story.cdr.callee.reason is EndReason.LOST


MENU = Menu(
    notice="hello",
    prompt="press one",
    choices=(("1", Choice.CONNECT), ("2", Choice.REPLAY), ("3", Choice.RELEASE)),
    repeats=2,
)
MENU_PLAN = replace(PLAN, menu=MENU)
PROMPTS = Prompts("/n", "/p", notice_s=2.5, prompt_s=4.0)


class MenuStory(Story):
    """A call with a menu whose caller has just answered."""

    def __init__(self, prompts: Prompts = PROMPTS, menu: Menu = MENU) -> None:
        super().__init__(replace(PLAN, menu=menu))
        self.start()
        assert self.commands == [PreparePrompts(menu)]
        self.take(PromptsReady(self.now, prompts))
        self.answered(A)

    @property
    def playing(self) -> Play:
        return [c for c in self.commands if isinstance(c, Play)][-1]

    def played(self) -> list[Command]:
        return self.leg(PlayEnded, A, turn=self.playing.turn)

    def key(self, key: str) -> list[Command]:
        return self.leg(KeyPressed, A, key=key)

    def wait_over(self) -> list[Command]:
        self.now = min(deadlines(self.state))
        return self.take(Tick(self.now))


def test_nobody_is_dialled_before_the_prompts_are_there() -> None:
    story = Story(MENU_PLAN).start()
    assert story.commands == [PreparePrompts(MENU)]
    longest = 30  # the notice, and three times the prompt and the wait: 2.5 + 3 * (4 + 5), rounded up
    assert story.take(PromptsReady(story.now, PROMPTS)) == [DialCaller("t", 60, 60 + longest + 60 + 1800 + 2)]


def test_the_end_of_a_play_that_never_began_means_nothing_before_the_answer() -> None:
    story = Story(MENU_PLAN).start()
    story.take(PromptsReady(story.now, PROMPTS))
    assert story.leg(PlayEnded, A, turn=0) == []


def test_prompts_that_cannot_be_made_end_the_call_before_it_is_dialled() -> None:
    story = Story(MENU_PLAN).start()
    story.take(PromptsFailed(story.now))
    assert story.told == ["a failed"]
    assert story.cdr.caller.reason is EndReason.PROMPT_FAILED
    assert story.cdr.result is CallResult.UNKNOWN


def test_prompts_that_come_too_late_dial_nobody() -> None:
    story = Story(MENU_PLAN).start().after(30_000)
    story.take(PromptsReady(story.now, PROMPTS))
    assert story.cdr.caller.reason is EndReason.EXPIRED


def test_keys_during_the_notice_have_no_effect() -> None:
    story = MenuStory()
    assert story.playing == Play("/n", 1)
    assert story.key("1") == []
    assert story.played() == [Play("/p", 2)]


def test_a_key_stops_the_prompt_and_connects() -> None:
    story = MenuStory()
    story.played()
    assert story.key("1") == [
        TellKey(4, "1", story.now),
        StopPlay(2),
        DialCallee("t", 60, 1862),
        StartRingback(),
    ]
    assert story.key("3") == []
    story.answered(B)
    assert story.state.talking


def test_a_key_while_waiting_needs_nothing_stopped() -> None:
    story = MenuStory()
    story.played()
    story.played()
    assert story.after(4_900).key("1")[1] == DialCallee("t", 60, 1862)


@pytest.mark.parametrize("key", ["2", "9"])
def test_a_replay_key_and_a_key_without_a_choice_play_the_prompt_again(key: str) -> None:
    story = MenuStory()
    story.played()
    assert story.key(key) == [TellKey(4, key, story.now), StopPlay(2), Play("/p", 3)]
    assert story.leg(PlayEnded, A, turn=2) == [], "the end of the play that was stopped"
    assert story.played() == []
    assert deadlines(story.state) == [story.now + 5_000]
    assert story.played() == [], "told twice"


def test_silence_replays_and_then_releases() -> None:
    story = MenuStory()
    story.played()
    for turn in (3, 4):
        story.played()
        assert story.wait_over() == [Play("/p", turn)]
    story.played()
    assert story.wait_over() == [HangUp(A)]
    story.leg(LegEnded, A)
    assert story.cdr.caller.reason is EndReason.MENU
    assert story.cdr.result is CallResult.CALLEE_NO_ANSWER
    assert story.cdr.billed_s == 0


def test_a_play_whose_end_is_never_reported_does_not_stop_the_menu() -> None:
    story = MenuStory()
    assert deadlines(story.state) == [story.now + 7_500]
    assert story.wait_over() == [Play("/p", 2)]
    assert story.wait_over() == []
    assert deadlines(story.state) == [story.now + 5_000]


def test_the_release_key() -> None:
    story = MenuStory()
    story.played()
    assert story.key("3") == [TellKey(4, "3", story.now), StopPlay(2), HangUp(A)]
    assert story.key("1") == []


def test_a_menu_without_a_prompt_waits_for_keys_at_once() -> None:
    story = MenuStory(Prompts("/n", None, notice_s=2.0))
    assert story.played() == []
    assert story.key("1")[1] == DialCallee("t", 60, 1862)


def test_a_menu_without_a_notice_begins_with_the_prompt() -> None:
    assert MenuStory(Prompts(None, "/p")).playing == Play("/p", 1)


def test_the_caller_hangs_up_in_the_menu() -> None:
    story = MenuStory()
    story.leg(LegEnded, A)
    assert story.cdr.result is CallResult.CALLEE_NO_ANSWER
    assert story.played() == []


@pytest.mark.parametrize(
    ("unless", "stage"),
    [
        (CancelUnless.CALLER_RINGING, "caller rings"),
        (CancelUnless.CALLER_ANSWERED, "caller answered"),
        (CancelUnless.CALLEE_RINGING, "callee rings"),
        (CancelUnless.CALLEE_ANSWERED, "talking"),
        (CancelUnless.NEVER, "never"),
    ],
)
def test_a_cancel_request_against_every_state(unless: CancelUnless, stage: str) -> None:
    stages = ["queued", "dialled", "caller rings", "caller answered", "callee rings", "talking"]
    for reached, name in enumerate(stages):
        story = Story()
        moves = (
            story.start,
            lambda story=story: story.invited_ringing(A),
            lambda story=story: story.leg(LegAnswered, A),
            lambda story=story: story.invited_ringing(B),
            lambda story=story: story.leg(LegAnswered, B),
        )
        for move in moves[:reached]:
            move()
        before = story.state
        commands = story.take(Cancel(story.now, unless))
        refused = stage != "never" and reached >= stages.index(stage)
        assert (story.state is before and commands == []) == refused, name
        if refused:
            continue
        for leg in Leg:
            story.leg(LegEnded, leg, sip_code=487)
        assert story.cdr.caller.reason is EndReason.WITHDRAWN
        assert (story.cdr.result is CallResult.TALKED) == (name == "talking")


@pytest.mark.parametrize(
    ("sound", "early_first", "heard"),
    [
        (RingSound.ALL, True, [StopRingback]),
        (RingSound.NONE, True, []),
        (RingSound.NONE, False, []),
        (RingSound.FAIL, True, [StopRingback, StartRingback]),
        (RingSound.FAIL, False, []),
    ],
)
def test_what_the_caller_hears_while_the_callee_is_dialled(
    sound: RingSound, early_first: bool, heard: list[type]
) -> None:
    story = Story(replace(PLAN, ring_sound=sound)).start().answered(A)
    kinds = [LegEarlyMedia, LegRinging] if early_first else [LegRinging, LegEarlyMedia]
    commands = [c for kind in kinds for c in story.leg(kind, B)]
    assert [type(c) for c in commands if not isinstance(c, Tell)] == heard


def test_a_warning_before_the_limit() -> None:
    story = Story(replace(PLAN, warn_s=60, warn=(A, B))).start().answered(A).answered(B)
    warn_at, end_at = sorted(deadlines(story.state))
    assert end_at - warn_at == 60_000
    assert story.take(Tick(warn_at)) == [Warn(A), Warn(B)]
    assert deadlines(story.state) == [end_at]


def test_no_warning_in_a_talk_that_is_too_short_for_it() -> None:
    plan = replace(PLAN, warn_s=60, warn=(A,), max_talk_s=60)
    assert len(deadlines(Story(plan).start().answered(A).answered(B).state)) == 1


@pytest.mark.parametrize(
    ("plan", "shortened"),
    [
        (PLAN, True),
        (replace(PLAN, record=True), False),
        (replace(PLAN, warn_s=60, warn=(A,)), False),
        (replace(PLAN, warn_s=60, warn=(A,), max_talk_s=60), True),  # too short for a tone
    ],
)
def test_the_audio_goes_the_shortest_way_unless_the_engine_needs_it(plan: Plan, shortened: bool) -> None:
    story = Story(plan).start().answered(A)
    assert ShortenPath() not in story.commands
    assert (ShortenPath() in story.answered(B).commands) is shortened
    assert (ShortenPath() in story.take(Resumed(story.now))) is shortened
    story.take(Cancel(story.now))
    assert ShortenPath() not in story.take(Resumed(story.now))


class Interleavings(RuleBasedStateMachine):
    """Any event at any time; afterwards the engine confirms what it was asked, and the call must be over."""

    @initialize(
        menu=st.sampled_from([None, MENU, replace(MENU, repeats=0)]),
        sound=st.sampled_from(RingSound),
        warn=st.sampled_from([(), (A,), (A, B)]),
        routes=st.tuples(*[st.sampled_from([("t",), ("t", "u"), ("u", "t", "v")])] * 2),
        paced=st.sampled_from([(), ("t",), ("t", "u", "v")]),
        hold=st.sampled_from([None, 200, 1000, 10**6]),
    )
    def begin(
        self,
        menu: Menu | None,
        sound: RingSound,
        warn: tuple[Leg, ...],
        routes: tuple[tuple[str, ...], tuple[str, ...]],
        paced: tuple[str, ...],
        hold: int | None,
    ) -> None:
        plan = replace(PLAN, menu=menu, ring_sound=sound, warn=warn, warn_s=60, paced=paced)
        price = Rate("", per_minute=100)
        budget = Budget(price, price, hold)
        self.story = Story(replace(plan, caller_route=routes[0], callee_route=routes[1], budget=budget))

    @rule(ms=st.integers(0, 70_000))
    def time_passes(self, ms: int) -> None:
        self.story.after(ms)

    @rule()
    def dispatch(self) -> None:
        self.story.start()

    @rule(
        leg=st.sampled_from(Leg), kind=st.sampled_from([LegInvited, LegRinging, LegEarlyMedia, LegAnswered])
    )
    def progress(self, leg: Leg, kind: type[LegEvent]) -> None:
        self.story.leg(kind, leg)

    @rule(
        leg=st.sampled_from(Leg),
        sip=st.none() | st.sampled_from([404, 408, 480, 486, 487, 503, 603, 699]),
        why=st.sampled_from([None, EndReason.NO_AUDIO, EndReason.LOST]),
    )
    def ended(self, leg: Leg, sip: int | None, why: EndReason | None) -> None:
        self.story.leg(LegEnded, leg, sip_code=sip, why=why)

    @rule(leg=st.sampled_from(Leg), known_until=st.none() | st.integers(0, 3_000_000))
    def vanished(self, leg: Leg, known_until: int | None) -> None:
        self.story.leg(LegEnded, leg, why=EndReason.LOST, known_until=known_until)

    @rule(notice=st.sampled_from([None, "/n"]), prompt=st.sampled_from([None, "/p"]))
    def prompts_ready(self, notice: str | None, prompt: str | None) -> None:
        if self.story.state.plan.menu is not None:
            self.story.take(PromptsReady(self.story.now, Prompts(notice, prompt, 1.5, 2.5)))

    @rule()
    def prompts_failed(self) -> None:
        if self.story.state.plan.menu is not None:
            self.story.take(PromptsFailed(self.story.now))

    @rule(leg=st.sampled_from(Leg), turn=st.integers(1, 5), failed=st.booleans())
    def play_ended(self, leg: Leg, turn: int, failed: bool) -> None:
        self.story.leg(PlayEnded, leg, turn=turn, failed=failed)

    @rule(leg=st.sampled_from(Leg), key=st.sampled_from("1239#"))
    def key_pressed(self, leg: Leg, key: str) -> None:
        self.story.leg(KeyPressed, leg, key=key)

    @rule(unless=st.sampled_from(CancelUnless))
    def cancel(self, unless: CancelUnless) -> None:
        self.story.take(Cancel(self.story.now, unless))

    @rule(leg=st.sampled_from(Leg))
    def dial_failed(self, leg: Leg) -> None:
        self.story.take(DialFailed(leg, self.story.now))

    @rule(
        leg=st.sampled_from(Leg),
        trunk=st.sampled_from(["t", "u", "v"]),
        kind=st.sampled_from([LineFree, LineBusy]),
    )
    def line(self, leg: Leg, trunk: str, kind: type[LineFree] | type[LineBusy]) -> None:
        self.story.take(kind(leg, trunk, self.story.now))

    @rule()
    def tick(self) -> None:
        self.story.take(Tick(self.story.now))

    @precondition(lambda self: deadlines(self.story.state))
    @rule()
    def until_the_next_deadline(self) -> None:
        self.story.now = max(self.story.now, min(deadlines(self.story.state)))
        before = self.story.state
        self.story.take(Tick(self.story.now))
        assert self.story.state != before, "a deadline at which nothing happens would spin"

    @rule(known_until=st.none() | st.integers(0, 3_000_000))
    def engine_gone(self, known_until: int | None) -> None:
        self.story.take(EngineGone(self.story.now, known_until))

    @rule()
    def resumed(self) -> None:
        self.story.resumes += 1
        if AskPlay(self.story.state.menu.turn if self.story.state.menu else 0) in self.story.take(
            Resumed(self.story.now)
        ):
            assert self.story.state.menu is not None
            self.story.take(PlayMissed(self.story.now, self.story.state.menu.turn))

    @invariant()
    def each_leg_is_dialled_at_most_once_a_trunk_and_only_in_its_turn(self) -> None:
        commands, plan = self.story.commands, self.story.state.plan
        for kind, route in ((DialCaller, plan.caller_route), (DialCallee, plan.callee_route)):
            trunks = [c.trunk for c in commands if isinstance(c, kind)]
            assert len(set(trunks)) == len(trunks)
            assert trunks == [trunk for trunk in route if trunk in trunks]
        kinds = [type(c) for c in commands]
        if DialCallee in kinds:
            assert "a answered" in self.story.told
            assert DialCaller in kinds
            if plan.menu is not None:
                assert "key 1" in self.story.told

    @invariant()
    def a_phone_that_may_have_rung_is_not_rung_again(self) -> None:
        """What follows the first sign of ringing or an answer holds no dial of that leg."""
        for leg, kind in ((A, DialCaller), (B, DialCallee)):
            rang = [
                n
                for n, c in enumerate(self.story.commands)
                if isinstance(c, Tell)
                and c.report.leg is leg
                and c.report.moment in (Moment.RINGING, Moment.ANSWERED)
            ]
            if rang:
                assert not any(isinstance(c, kind) for c in self.story.commands[rang[0] :])

    @invariant()
    def nobody_pays_more_than_is_held(self) -> None:
        for command in self.story.commands:
            if isinstance(command, Finish):
                hold = self.story.state.plan.budget.hold
                assert command.cdr.charge <= hold if hold is not None else True
                assert (command.cdr.charge > 0) <= (command.cdr.result is CallResult.TALKED)

    @invariant()
    def every_play_is_one_more_turn_and_within_the_limit(self) -> None:
        turns = [c.turn for c in self.story.commands if isinstance(c, Play)]
        assert turns == list(range(1, len(turns) + 1))
        menu = self.story.state.plan.menu
        assert len(turns) <= (2 + menu.repeats + self.story.resumes if menu else 0)

    @invariant()
    def nothing_is_told_twice_or_after_the_end_of_its_leg(self) -> None:
        for leg in Leg:
            moments = [
                c.report.moment for c in self.story.commands if isinstance(c, Tell) and c.report.leg is leg
            ]
            assert len(set(moments)) == len(moments)
            last = {Moment.REFUSED, Moment.HUNG_UP, Moment.FAILED}
            assert not last & set(moments[:-1])

    @invariant()
    def a_finished_call_has_one_cdr_and_no_live_leg(self) -> None:
        finishes = [c for c in self.story.commands if isinstance(c, Finish)]
        assert len(finishes) == self.story.state.over
        if self.story.state.over:
            assert not self.story.state.caller.alive
            assert not self.story.state.callee.alive
            assert self.story.commands[-1] == finishes[0]
            assert not deadlines(self.story.state)
        else:
            assert deadlines(self.story.state), "a call that waits for nothing would never end"

    @invariant()
    def a_dead_leg_leaves_no_other_alive_unasked(self) -> None:
        state = self.story.state
        for leg in Leg:
            if state.leg(leg).record.ended_at is not None and state.leg(leg.other).alive:
                assert HangUp(leg.other) in self.story.commands

    def teardown(self) -> None:
        if not hasattr(self, "story"):
            return
        story = self.story
        for _ in range(10):
            if story.state.over:
                break
            story.now = max(story.now, min(deadlines(story.state), default=0))  # a line alone is waited for
            story.take(Tick(story.now))
            for leg in Leg:
                if HangUp(leg) in story.commands:
                    story.leg(LegEnded, leg)
                if (trunk := story.state.trunk(leg)) and story.state.leg(leg).waiting:
                    story.take(LineBusy(leg, trunk, story.now))
        assert story.state.over
        assert story.cdr.billed_s >= 0
        if story.cdr.result is not CallResult.TALKED:
            assert story.cdr.billed_s == 0


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)


def test_a_finished_call_takes_no_further_event() -> None:
    story = Story().start()
    story.leg(LegEnded, A, sip_code=404)
    state = story.state
    assert story.leg(LegAnswered, A) == []
    assert story.state is state
    assert replace(state) == state
