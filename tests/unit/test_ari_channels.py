"""What Asterisk's events mean: whose they are, and what becomes of a leg that is answered or gone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from huibo.clock import Clock
from huibo.config import load
from huibo.engine.ari.adapter import AriEngine, EngineListener
from huibo.engine.ari.channels import Names, Translator, channel_of, leg_of, play_of
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
from huibo.model import EndReason, Leg
from huibo.recording.raw import RawRecordings

CALL = "12-251122-0123456789abcdef0123456789abcdef"
A, B = Leg.CALLER, Leg.CALLEE
AT = 1_763_817_738_000

Event = dict[str, Any]


def on(kind: str, leg: Leg | str, state: str = "Down", **more: Any) -> Event:
    """An event about a channel, with the fields that Asterisk 22 sends and we use."""
    channel = leg if not isinstance(leg, Leg) else channel_of(CALL, leg)
    return {
        "type": kind,
        "application": "huibo",
        "timestamp": "2026-11-22T13:22:18.819+0000",
        "channel": {"id": channel, "name": "PJSIP/trunk-x-00000001", "state": state},
        **more,
    }


def dial(leg: Leg, status: str) -> Event:
    return {
        "type": "Dial",
        "application": "huibo",
        "dialstatus": status,
        "dialstring": "13800138000@trunk-x",
        "peer": {"id": channel_of(CALL, leg), "name": "PJSIP/trunk-x-00000001", "state": "Down"},
    }


def up(leg: Leg) -> Event:
    return on("ChannelStateChange", leg, "Up")


def destroyed(leg: Leg | str, cause: int = 16, **more: Any) -> Event:
    return on("ChannelDestroyed", leg, cause=cause, cause_txt="", **more)


def tell(*events: Event, translator: Translator | None = None) -> list[LegEvent]:
    translator = translator or Translator()
    return [made for number, event in enumerate(events) for made in translator.take(event, AT + number)]


@pytest.mark.parametrize("leg", Leg)
@pytest.mark.parametrize("attempt", [0, 1, 2, 31])
def test_a_channel_tells_whose_it_is(leg: Leg, attempt: int) -> None:
    assert leg_of(channel_of(CALL, leg, attempt)) == (CALL, leg)


def test_each_attempt_has_a_channel_of_its_own_and_the_last_is_the_legs() -> None:
    names = Names()
    assert names.of(CALL, A) == channel_of(CALL, A)
    channels = [names.begin(CALL, A, attempt) for attempt in range(12)]
    assert len(set(channels)) == 12
    assert (names.of(CALL, A), names.of(CALL, B)) == (channels[-1], channel_of(CALL, B))
    names.take(destroyed(channels[3]))
    assert names.of(CALL, A) == channels[-1]
    names.take(destroyed(channels[-1]))
    assert len(names) == 0


def test_stock_tells_the_last_of_several_channels_of_a_leg() -> None:
    names = Names()
    names.begin("gone", B, 1)
    late, first = channel_of(CALL, A, 10), channel_of(CALL, B)
    others = ["x-probe", "1763817738.12"]
    found = names.take_stock([late, channel_of(CALL, A, 9), channel_of(CALL, A), first, *others])
    assert found == {(CALL, A): late, (CALL, B): first}
    assert (names.of(CALL, A), names.of(CALL, B), len(names)) == (late, first, 1)


@pytest.mark.parametrize(
    "channel",
    [
        *("1763817738.12", "", "a", "-", CALL, f"{CALL}-c", f"{CALL}-", f"{CALL}-A", f"{CALL}-ringback"),
        *(f"{CALL}-a.", f"{CALL}-a.0", f"{CALL}-a.x", f"{CALL}-a.1.1", f"{CALL}-a.\u0663", f"{CALL}-.1"),
    ],
)
def test_other_channels_are_not_ours(channel: str) -> None:
    assert leg_of(channel) is None
    for kind in ("ChannelStateChange", "StasisStart", "ChannelDestroyed", "ChannelCreated"):
        assert tell(on(kind, channel, "Up", cause=16)) == []


@pytest.mark.parametrize("leg", Leg)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("", LegInvited),
        ("PROGRESS", LegEarlyMedia),
        ("RINGING", None),  # the channel's state tells, also where a 180 brings media
        ("ANSWER", None),
        ("BUSY", None),
        ("CONGESTION", None),
        ("NOANSWER", None),
        ("CHANUNAVAIL", None),
        ("CANCEL", None),
        ("PROCEEDING", None),
    ],
)
def test_dialling(leg: Leg, status: str, kind: type[LegEvent] | None) -> None:
    assert tell(dial(leg, status)) == ([kind(CALL, leg, AT)] if kind else [])


@pytest.mark.parametrize("leg", Leg)
@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("Ringing", LegRinging),
        ("Up", LegAnswered),
        ("Down", None),
        ("Rsrvd", None),
        ("OffHook", None),
        ("Dialing", None),
        ("Ring", None),  # somebody calls us
        ("Busy", None),
        ("Dialing Offhook", None),
        ("Pre-ring", None),
        ("Unknown", None),
    ],
)
def test_the_state_of_a_channel(leg: Leg, state: str, kind: type[LegEvent] | None) -> None:
    assert tell(on("ChannelStateChange", leg, state)) == ([kind(CALL, leg, AT)] if kind else [])


@pytest.mark.parametrize("leg", Leg)
def test_coming_into_the_application_and_leaving_it_mean_nothing(leg: Leg) -> None:
    """A channel is created in it, and leaves it for a moment when its recording is started."""
    moves = [on(kind, leg, "Up") for kind in ("StasisStart", "StasisEnd", "StasisStart")]
    assert tell(on("StasisStart", leg), *moves) == []


def test_a_whole_leg() -> None:
    ringing = on("ChannelStateChange", B, "Ringing")
    story = [on("StasisStart", B), dial(B, ""), dial(B, "PROGRESS"), ringing, up(B), destroyed(B)]
    told = [LegInvited, LegEarlyMedia, LegRinging, LegAnswered, LegEnded]
    assert tell(*story) == [kind(CALL, B, AT + 1 + number) for number, kind in enumerate(told)]


@pytest.mark.parametrize(
    ("fields", "sip_code", "why"),
    [
        ({"cause": 17, "tech_cause": 486}, 486, None),
        ({"cause": 21, "tech_cause": 603}, 603, None),
        ({"cause": 16}, None, None),
        ({"cause": 16, "tech_cause": 0}, None, None),  # what Asterisk gives when there was no response
        ({"cause": 44}, None, EndReason.NO_AUDIO),
        ({"cause": 44, "tech_cause": 0}, None, EndReason.NO_AUDIO),
        ({"cause": 44, "tech_cause": 503}, 503, None),  # the network's own: not our watchdog
        ({"cause": 0}, None, None),
    ],
)
@pytest.mark.parametrize("leg", Leg)
def test_the_end_of_a_leg(
    leg: Leg, fields: dict[str, int], sip_code: int | None, why: EndReason | None
) -> None:
    assert tell(destroyed(leg, **fields)) == [LegEnded(CALL, leg, AT, sip_code=sip_code, why=why)]


@pytest.mark.parametrize("key", ["0", "9", "*", "#", "A", "d"])
def test_keys(key: str) -> None:
    pressed = on("ChannelDtmfReceived", A, "Up", digit=key, duration_ms=90)
    assert tell(pressed) == [KeyPressed(CALL, A, AT, key=key.upper())]


def played(playback: str, state: str = "done") -> Event:
    fields = {"id": playback, "state": state, "media_uri": "sound:/x", "target_uri": "channel:x"}
    return {"type": "PlaybackFinished", "application": "huibo", "playback": fields}


@pytest.mark.parametrize(("state", "failed"), [("done", False), ("failed", True)])
def test_the_end_of_a_prompt_tells_which_play_it_was(state: str, failed: bool) -> None:
    ended = tell(played(play_of(CALL, 12), state))
    assert ended == [PlayEnded(CALL, A, AT, turn=12, failed=failed)]


@pytest.mark.parametrize(
    "playback", [f"{CALL}-ringback", "6c9b23a1-5f47-4d4e-8a86-3d6b4a6e8f10", "tone-1", "x", "", f"{CALL}-a-x"]
)
def test_the_end_of_another_sound_means_nothing(playback: str) -> None:
    assert tell(played(playback)) == []


@pytest.mark.parametrize(("soft", "why"), [({}, None), ({"soft": True}, EndReason.NO_AUDIO)])
def test_a_far_end_that_hangs_up_did_so_whatever_cause_it_gives(
    soft: dict[str, bool], why: EndReason | None
) -> None:
    request = on("ChannelHangupRequest", B, "Up", cause=44, **soft)
    assert tell(request, destroyed(B, 44)) == [LegEnded(CALL, B, AT + 1, why=why)]


def test_nothing_is_said_of_a_channel_that_is_ignored_not_even_its_end() -> None:
    translator = Translator()
    translator.ignore(channel_of(CALL, B))
    assert tell(dial(B, ""), dial(B, "PROGRESS"), up(B), destroyed(B), translator=translator) == []
    assert tell(up(A), translator=translator) == [LegAnswered(CALL, A, AT)]


def test_what_was_kept_of_a_channel_goes_with_it() -> None:
    """A process lives for millions of calls."""
    translator = Translator()
    translator.ignore(channel_of(CALL, B))
    left = [on("ChannelHangupRequest", leg, "Up", cause=16) for leg in Leg]
    tell(*left, destroyed(B), destroyed(A), translator=translator)
    assert tell(destroyed(A, 44), translator=translator)[0] == LegEnded(CALL, A, AT, why=EndReason.NO_AUDIO)
    assert tell(destroyed(B), translator=translator) == [LegEnded(CALL, B, AT)]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ApplicationReplaced", "application": "huibo"},
        {"type": "BridgeCreated", "bridge": {"id": CALL}},
        {"type": "Dial", "dialstatus": "RINGING"},
        on("ChannelHangupRequest", A, cause=16),
        on("ChannelCallerId", A),
        on("ChannelVarset", A, variable="X", value="1"),
        on("ChannelStateChange", A, "Ring"),
        on("SomethingNew", A),
        {},
    ],
)
def test_what_is_not_about_a_legs_life_means_nothing(event: Event) -> None:
    assert tell(event) == []


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ChannelDestroyed"},
        {"type": "ChannelDtmfReceived", "channel": {"id": channel_of(CALL, A)}},
        {"type": "PlaybackFinished", "playback": None},
        {"type": "Dial", "peer": {"id": 7}, "dialstatus": ""},
        {},
    ],
)
async def test_an_event_that_is_not_as_it_should_be_is_passed_over(tmp_path: Path, event: Event) -> None:
    async def no_trunk(_name: str) -> None:
        return None

    settings, raw = load().engine, RawRecordings(tmp_path)
    engine = AriEngine(settings, 60, Clock(), raw, tmp_path / "tone.wav", no_trunk)
    told: list[LegEvent] = []
    engine._listener = cast(EngineListener, SimpleNamespace(on_leg_event=told.append))
    engine._take(event)
    engine._take(on("ChannelStateChange", A, "Up"))  # and the next one counts
    assert told == [LegAnswered(CALL, A, told[0].at)]
