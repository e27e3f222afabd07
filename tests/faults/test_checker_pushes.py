"""What the checker finds of pushes and recordings that were spoilt (I5, I6)."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from huibo.model import Leg
from huibo.sandbox.journal import PhoneMoment as Phone
from tests.faults.evidence import Arrived
from tests.faults.spoiling import Book, Spoil, Spoilt, judge
from tests.faults.true_world import BEGAN

A, B = Leg
book = Book()


def _status(world: Spoilt, name: str, flag: str, status: str) -> str:
    (webhook_id,) = world.pushes(name, "status", userFlag=flag, callStatus=status)
    return webhook_id


def _one(world: Spoilt, name: str, kind: str) -> str:
    (webhook_id,) = world.pushes(name, kind)
    return webhook_id


# --- I5: what is owed ---


@book("I5", "no status push dst ringing is owed")
def a_status_that_is_not_owed(world: Spoilt) -> None:
    world.unpush(_status(world, "talk", "dst", "ringing"))


@book("I5", "src failed was not asked for")
def a_status_that_was_not_asked_for(world: Spoilt) -> None:
    world.asked("withdrawn").body["statusFlag"] = "1"


@book("I5", "src disaccept was not asked for, or did not happen")
def a_status_that_did_not_happen(world: Spoilt) -> None:
    world.push_as(_status(world, "talk", "src", "disaccept"), callStatus="failed")
    world.push_as(_status(world, "withdrawn", "src", "failed"), callStatus="disaccept")


@book("I5", "src ringing is pushed 2 times")
def a_status_that_is_owed_twice(world: Spoilt) -> None:
    world.push_as(_status(world, "answer lost", "src", "invite"), callStatus="ringing")


@book("I5", "src answered is pushed with another time")
def a_status_with_another_time(world: Spoilt) -> None:
    world.push_as(_status(world, "menu", "src", "answered"), timeStamp=str(BEGAN // 1000))


@book("I5", "0 CDR pushes are owed")
def a_cdr_that_is_not_owed(world: Spoilt) -> None:
    world.unpush(_one(world, "talk", "cdr"))


@book("I5", "does not say what the CDR says")
def a_cdr_push_that_says_something_else(world: Spoilt) -> None:
    world.push_as(_one(world, "talk", "cdr"), duration="99")


@book("I5", "cdr push 9 is about another request")
def a_push_with_another_number(world: Spoilt) -> None:
    world.push_as(_one(world, "talk", "cdr"), dst="008613900000000")


@book("I5", "1 recording pushes are due, 0 are owed")
def a_recording_that_nobody_is_told_of(world: Spoilt) -> None:
    world.unpush(_one(world, "talk", "recording"))


@book("I5", "1 recording pushes are due, 0 are owed")
def a_recognition_that_nobody_is_told_of(world: Spoilt) -> None:
    world.unpush(_one(world, "recognised", "recording"))


@book("I5", "0 recording pushes are due, 1 are owed")
def a_recognition_that_was_not_asked_for(world: Spoilt) -> None:
    del world.asked("recognised").body["ringRecognition"]


@book("I5", "keys are pushed that were not pressed: 1")
def a_key_that_was_not_pressed(world: Spoilt) -> None:
    world.unsee("menu", A, Phone.PRESSED)


@book("I5", "the key that had the callee dialled")
def a_key_that_nobody_is_told_of(world: Spoilt) -> None:
    world.unpush(_one(world, "menu", "key"))


@book("I5", "keys are pushed, nobody asked")
def a_key_that_nobody_wants_to_know(world: Spoilt) -> None:
    body = world.asked("menu").body
    body["preCallerHandle"] = json.dumps(json.loads(body["preCallerHandle"]) | {"keyPressUrl": ""})


# --- I5: what became of it ---


@book("I5", "cdr push 9 is still pending")
def a_push_that_is_not_delivered_yet(world: Spoilt) -> None:
    world.sql("UPDATE pushes SET state = 'pending' WHERE kind = 'cdr' AND call_id = ?", world.ids["talk"])


@book("I5", "cdr push 9 is lost")
def a_push_in_a_state_that_does_not_exist(world: Spoilt) -> None:
    world.sql("UPDATE pushes SET state = 'lost' WHERE kind = 'cdr' AND call_id = ?", world.ids["talk"])


@book("I5", "cdr push 9 is marked delivered, no receiver took it")
def a_push_that_never_arrived(world: Spoilt) -> None:
    gone = _one(world, "talk", "cdr")
    world.evidence.arrived = [one for one in world.evidence.arrived if one.webhook_id != gone]


@book("I5", "is marked delivered, no receiver took it")
def a_push_that_every_receiver_refused(world: Spoilt) -> None:
    for answered in ("500", "hang", "redirect", "cut"):
        (one,) = world.arrived(_one(world, "talk", "cdr"))[:1]
        one.answered = answered
        world.evidence.arrived.append(
            Arrived(one.at + 1000, "good", "cdr", one.body, one.webhook_id, answered)
        )


@book("I5", "cdr push 9 was given up, its receiver was well", ("receiver: hang", 5_000, 9_000))
def a_push_that_was_given_up_for_nothing(world: Spoilt) -> None:
    gone = _one(world, "talk", "cdr")
    world.sql("UPDATE pushes SET state = 'dead' WHERE kind = 'cdr' AND call_id = ?", world.ids["talk"])
    world.evidence.arrived = [one for one in world.evidence.arrived if one.webhook_id != gone]


@book("I5", "arrived with another body")
def a_push_whose_body_changes(world: Spoilt) -> None:
    (one,) = world.arrived(_one(world, "talk", "cdr"))
    again = one.body | {"duration": "0"}
    world.evidence.arrived.append(Arrived(one.at + 50, "good", "cdr", again, one.webhook_id, "200"))


@book("I5", "arrived where it was not to go")
def a_push_that_followed_a_redirect(world: Spoilt) -> None:
    (one,) = world.arrived(_one(world, "talk", "cdr"))
    elsewhere = Arrived(one.at + 50, "good", "elsewhere", one.body, one.webhook_id, "200")
    world.evidence.arrived.append(elsewhere)


@book("I5", "which nobody owed")
def a_push_that_is_not_in_the_database(world: Spoilt) -> None:
    (one,) = world.arrived(_one(world, "talk", "cdr"))
    stranger = Arrived(one.at + 50, "good", "cdr", one.body, one.webhook_id + "7", "200")
    world.evidence.arrived.append(stranger)


@book("I5", "status push 3 arrived before status push 2")
def a_status_that_overtook_another(world: Spoilt) -> None:
    two, three = (world.arrived(one)[0] for one in world.pushes("talk", "status", userFlag="src")[1:3])
    two.at, three.at = three.at, two.at


@book("I5", "cdr push 9 arrived before status push")
def a_cdr_that_overtook_its_statuses(world: Spoilt) -> None:
    (one,) = world.arrived(_one(world, "talk", "cdr"))
    one.at = BEGAN + 2000
    world.fault("receiver: 500", 0, 9000)  # which is no excuse


def test_a_repeat_may_come_after_what_follows_it(world: Spoilt) -> None:
    (one,) = world.arrived(_status(world, "talk", "src", "ringing"))
    world.evidence.arrived.append(Arrived(one.at + 20_000, "good", "status", one.body, one.webhook_id, "200"))
    assert world.found() == []


@book("I5", "src ringing is told after what comes behind it")
def a_status_that_is_told_after_the_next(world: Spoilt) -> None:
    rang, answered = (_status(world, "menu", "src", status) for status in ("ringing", "answered"))
    bodies = [dict(world.arrived(one)[0].body) for one in (rang, answered)]
    world.push_as(rang, **bodies[1])
    world.push_as(answered, **bodies[0])


# --- I6 ---


@book("I6", "a recording was asked for, none is owed")
def a_recording_that_is_not_owed(world: Spoilt) -> None:
    world.drop("not recorded", "recordings")


@book("I6", "nobody asked for it")
def a_recording_that_nobody_asked_for(world: Spoilt) -> None:
    world.asked("not recorded").body["record"] = "0"


@book("I6", "failed without a reason")
def a_failure_without_a_reason(world: Spoilt) -> None:
    world.call("not recorded", "recordings", "reason = NULL")


@book("I6", "still pending: empty audio")
def a_recording_that_is_not_done_yet(world: Spoilt) -> None:
    world.call("not recorded", "recordings", "state = 'pending'")


@book("I6", "of a call that does not exist")
def a_recording_without_a_call(world: Spoilt) -> None:
    columns = "app_id, state, talk_ms, created_at, next_at, attempts, reason"
    world.sql(f"INSERT INTO recordings (call_id, {columns}) SELECT 'x', {columns} FROM recordings LIMIT 1")


@book("I6", "is not there")
def a_file_that_is_not_there(world: Spoilt) -> None:
    next(world.evidence.recordings.rglob(f"{world.ids['talk']}.wav")).unlink()


@book("I6", "bytes, not")
def a_file_that_is_cut_short(world: Spoilt) -> None:
    file = next(world.evidence.recordings.rglob(f"{world.ids['talk']}.wav"))
    file.write_bytes(file.read_bytes()[:-100])


@book("I6", "the recording is 2.5 s long, the talk was 5.0 s")
def a_recording_that_is_too_short(world: Spoilt) -> None:
    _rewrite(world, _sound(world)[:20_000])


@book(
    "I6",
    "(too short: 2.5 s of 5.0 s), and no fault explains that",
    ("Asterisk stopped", 3_500, 5_000),
    ("recording disk full", 3_500, 5_000),
    ("kill -9 of Asterisk", 3_500, 3_600),
)
def a_recording_that_says_it_is_too_short_for_nothing(world: Spoilt) -> None:
    _rewrite(world, _sound(world)[:20_000], "too short: 2.5 s of 5.0 s")
    world.fault("recording disk full", 9_000, 20_000)  # which is after the talk
    world.fault("carrier stopped", 0, 2_000)  # which is before it
    world.fault("ARI socket silent", 0, 9_000)  # which keeps nothing out of it
    world.fault("database locked", 0, 9_000)


@book("I6", "the recording is 2.5 s long, the talk was 5.0 s")
def a_recording_that_is_too_short_and_does_not_say_so(world: Spoilt) -> None:
    _rewrite(world, _sound(world)[:20_000])
    world.fault("Asterisk stopped", 3_500, 5_000)  # which excuses nothing without a word of it


@book("I6", "and no fault explains that")
def a_recording_that_lacks_more_than_a_fault_explains(world: Spoilt) -> None:
    _rewrite(world, _sound(world)[:4000], "too short: 0.5 s of 5.0 s")
    world.fault("Asterisk stopped", 3_500, 4_000)


@book("I6", "the callee is heard for 0.5 s of 5.0 s", ("recording disk full", 2_100, 9_000))
def a_voice_that_was_written_in_part(world: Spoilt) -> None:
    sound = _sound(world)
    sound[:36_000, 1] = 0
    _rewrite(world, sound, "lengths differ: caller 5.0 s, callee 0.5 s")


def test_of_a_caller_who_sends_nothing_a_short_recording_needs_no_fault(world: Spoilt) -> None:
    """His number ends in 24, as that of the phone that sends no audio, and everybody has seen it so."""
    _rewrite(world, _sound(world)[:20_000], "too short: 2.5 s of 5.0 s")
    assert {one.invariant for one in world.found()} == {"I6"}
    true = world.number("talk", A)
    world.sql("UPDATE calls SET caller = ? WHERE call_id = ?", f"+86{true[:-2]}24", world.ids["talk"])
    world.asked("talk").body["src"] = f"0086{true[:-2]}24"
    for log in world.evidence.phones.values():
        log[:] = [replace(one, number=f"{true[:-2]}24") if one.number == true else one for one in log]
    assert [one for one in world.found() if one.invariant == "I6"] == []


@book("I6", "has 1 channels of 8000 Hz")
def a_recording_in_mono(world: Spoilt) -> None:
    _rewrite(world, _sound(world)[:, :1])


@book("I6", "the callee is heard for 0.0 s of 5.0 s")
def a_voice_that_is_missing(world: Spoilt) -> None:
    sound = _sound(world)
    sound[:, 1] = 0
    _rewrite(world, sound)


@book("I6", "on the caller's channel the other one is heard")
def two_voices_in_one_channel(world: Spoilt) -> None:
    sound = _sound(world)
    sound[20_000:30_000, 0] = sound[20_000:30_000, 1]
    _rewrite(world, sound)


@book("I6", "the caller is heard for 0.0 s")
def two_voices_that_are_mixed_up(world: Spoilt) -> None:
    _rewrite(world, _sound(world)[:, ::-1])


@book(
    "I6",
    "the callee is heard for 1.3 s of 5.0 s",
    ("carrier stopped", 3_000, 7_000),
    ("Asterisk stopped", 3_000, 7_000),
)
def a_voice_with_a_long_gap(world: Spoilt) -> None:
    sound = _sound(world)
    sound[10_000:, 1] = 0
    _rewrite(world, sound)


def test_a_voice_is_wanted_for_as_long_as_its_phone_was_up(world: Spoilt) -> None:
    sound = _sound(world)
    sound[12_000:, 1] = 0
    _rewrite(world, sound)
    world.late("talk", B, -3400, Phone.HUNG_UP)
    world.fault("control plane stopped", 3_600, 7_000)
    assert world.found() == []


def test_a_talk_of_less_than_a_second_needs_no_recording(world: Spoilt) -> None:
    world.drop("not recorded", "recordings")
    for leg, by_ms in ((A, -14_600), (B, -14_600)):
        world.late("not recorded", leg, by_ms, Phone.HUNG_UP)
    assert {one.invariant for one in world.found()} == {"I1"}  # the CDR's times are those of the long talk


def _sound(world: Spoilt) -> NDArray[np.float64]:
    sound, _ = soundfile.read(next(world.evidence.recordings.rglob(f"{world.ids['talk']}.wav")))
    return np.array(sound)


def _rewrite(world: Spoilt, sound: NDArray[np.float64], reason: str | None = None) -> None:
    file = next(world.evidence.recordings.rglob(f"{world.ids['talk']}.wav"))
    soundfile.write(file, sound, 8000, subtype="PCM_16")
    told = "NULL" if reason is None else f"'{reason}'"
    world.call("talk", "recordings", f"bytes = {file.stat().st_size}, reason = {told}")


@pytest.mark.parametrize("spoil", book.all, ids=str)
def test_what_is_spoilt_is_found(world: Spoilt, spoil: Spoil) -> None:
    judge(world, spoil)
