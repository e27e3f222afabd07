"""What the checker finds of phones that do not hear each other (I11)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from huibo.model import Leg
from huibo.sandbox.journal import PhoneMoment as Phone
from huibo.sandbox.tones import RATE, RINGBACK_HZ, load
from tests.faults.evidence import Evidence
from tests.faults.spoiling import Book, Spoil, Spoilt, judge
from tests.faults.true_sound import tone, write

A, B = Leg
book = Book()


def _silence(world: Spoilt, name: str, leg: Leg, share: float = 1.0) -> None:
    """For a share of what a phone recorded, from the beginning."""
    file = world.heard(name, leg)
    sound = load(file).copy()
    sound[: round(len(sound) * share)] = 0
    write(file, sound)


def _deafen(world: Spoilt, *faults: str) -> None:
    """The caller of a talk of 15 s hears nothing of the callee, all through faults that are no excuse."""
    _silence(world, "not recorded", A)
    for name in faults:
        world.fault(name, 180_000, 200_000)


@book("I11", "the caller hears the callee for 0.0 s of 15.0 s", ("Asterisk stopped", 181_000, 197_000))
def a_caller_who_hears_nothing(world: Spoilt) -> None:
    _deafen(world)


@book("I11", "the callee hears the caller for 0.0 s of 15.0 s", ("carrier stopped", 181_000, 197_000))
def a_callee_who_hears_nothing(world: Spoilt) -> None:
    _silence(world, "not recorded", B)


@book("I11", "the caller hears the callee for 0.0 s of 15.0 s", ("kill -9 of Asterisk", 183_000, 184_000))
def a_caller_who_hears_the_ringing_tone_to_the_end(world: Spoilt) -> None:
    file = world.heard("not recorded", A)
    times = np.arange(len(load(file))) / RATE
    write(file, 0.3 * np.sin(2 * np.pi * RINGBACK_HZ * times) * (times % 5 < 1))


@book("I11", "the caller hears the callee for 0.0 s of 15.0 s")
def a_caller_who_hears_nothing_while_huibo_is_away(world: Spoilt) -> None:
    _deafen(
        world, "kill -9: talking", "control plane stopped", "upgrade", "ARI socket silent", "ARI socket cut"
    )


@book("I11", "the caller hears the callee for 0.0 s of 15.0 s")
def a_caller_who_hears_nothing_while_the_database_is_away(world: Spoilt) -> None:
    _deafen(
        world, "database locked", "table locked", "database restarted", "recording disk full", "clock +1 h"
    )


@book("I11", "the caller hears the callee for 4.8 s of 15.0 s", ("Asterisk stopped", 182_100, 188_000))
def a_callee_who_is_heard_late(world: Spoilt) -> None:
    _silence(world, "not recorded", A, 0.7)


@book("I11", "hears the callee for 0.0 s of 15.0 s")
def an_excuse_that_is_shorter_than_the_silence(world: Spoilt) -> None:
    _deafen(world)
    world.fault("Asterisk stopped", 185_000, 188_000)
    world.fault("carrier stopped", 186_000, 188_000)  # not counted twice


@book("I11", "the caller hears the callee for 0.0 s of 15.0 s")
def a_phone_that_hears_itself(world: Spoilt) -> None:
    write(world.heard("not recorded", A), tone(world.number("not recorded", A), 16))


@book("I11", "the callee's phone has recorded nothing")
def a_recording_of_a_phone_that_is_not_there(world: Spoilt) -> None:
    world.heard("not recorded", B).unlink()


def test_a_phone_that_sends_no_audio_is_not_waited_for(world: Spoilt) -> None:
    world.heard("silent", A).unlink()
    for leg in Leg:
        world.late("silent", leg, 3000, Phone.HUNG_UP)
    assert {one.invariant for one in world.found()} <= {"I1", "I6"}  # their times are no longer huibo's


def test_evidence_that_has_not_kept_what_phones_heard_is_not_judged_by_it(
    world: Spoilt, tmp_path: Path
) -> None:
    _silence(world, "not recorded", A)
    file = tmp_path / "evidence.json"
    world.evidence.save(file)
    assert Evidence.load(file).heard == world.evidence.heard
    plain = json.loads(file.read_text())
    del plain["heard"]
    file.write_text(json.dumps(plain))
    world.evidence = Evidence.load(file)
    assert world.found() == []


@pytest.mark.parametrize("spoil", book.all, ids=str)
def test_what_is_spoilt_is_found(world: Spoilt, spoil: Spoil) -> None:
    judge(world, spoil)
