"""What the checker finds of channels, keys, limits and time bounds that were spoilt (I4, I7 to I10)."""

from __future__ import annotations

import pytest

from huibo.model import Leg
from huibo.sandbox.journal import PhoneMoment as Phone
from tests.faults.evidence import Held
from tests.faults.spoiling import Book, Spoil, Spoilt, judge
from tests.faults.true_world import BEGAN, PREPAID

A, B = Leg
UNKNOWN = "12-251122-" + "f" * 32
book = Book()


# --- I4 ---


def _look(world: Spoilt, at: int, name: str, channel: bool = True) -> None:
    call_id = world.ids.get(name, name)
    held = ([f"{call_id}-a"], []) if channel else ([], [call_id])
    world.evidence.held.append(Held(BEGAN + at, "engine", *held))


@book(
    "I4",
    "-a 70 s after the call",
    ("ARI socket silent", 110_000, 125_000),
    ("upgrade", 110_000, 125_000),
)
def a_channel_that_outlives_its_call(world: Spoilt) -> None:
    _look(world, 99_020 + 70_000, "menu")


@book("I4", "65 s after the call")
def a_channel_that_outlives_its_call_beyond_all_excuse(world: Spoilt) -> None:
    _look(world, 99_020 + 80_000, "menu")
    world.fault("ARI socket silent", 110_000, 125_000)


@book("I4", "after the call")
def a_bridge_that_outlives_its_call(world: Spoilt) -> None:
    _look(world, 99_020 + 70_000, "menu", channel=False)


@book("I4", "70 s after the call")
def a_channel_that_outlives_a_call_of_another_clock(world: Spoilt) -> None:
    world.by_wrong_clock("menu", 3600)
    world.fault("clock +1 h", 80_000, 95_000)
    world.fault("upgrade", 82_000, 83_000)
    _look(world, 99_018 + 70_000, "menu")


@book("I4", "a call that does not exist")
def a_channel_that_nobody_owns(world: Spoilt) -> None:
    _look(world, 5000, UNKNOWN)
    world.evidence.held.append(Held(BEGAN + 9000, "engine", ["1763817738.12"], ["playback-1"]))


# --- I7 ---


@book("I7", "one key got 2 different callIds")
def a_key_with_two_answers(world: Spoilt) -> None:
    world.asked("talk").answers[1].call_id = world.ids["silent"]


@book("I7", "one key made 2 calls")
def a_key_with_two_calls(world: Spoilt) -> None:
    """The one that was withdrawn undialled was of the same request as another."""
    true = world.asked("withdrawn").body
    world.evidence.asked.remove(world.asked("undialled"))
    numbers = [f"+86{true[name].removeprefix('0086')}" for name in ("src", "dst")]
    changed = "UPDATE calls SET caller = ?, callee = ?, accepted_at = accepted_at - 119999 WHERE call_id = ?"
    world.sql(changed, *numbers, world.ids["undialled"])
    for kind in ("status", "cdr"):
        for webhook_id in world.pushes("undialled", kind):
            world.push_as(webhook_id, src=true["src"], dst=true["dst"])


@book("I7", "its key is remembered for 12-")
def a_key_that_is_remembered_for_another_call(world: Spoilt) -> None:
    world.sql(
        "UPDATE idempotency SET call_id = ? WHERE call_id = ?", world.ids["menu"], world.ids["withdrawn"]
    )


@book("I7", "its key is remembered for nothing")
def a_key_that_is_forgotten(world: Spoilt) -> None:
    world.drop("withdrawn", "idempotency")


@book("I7", "two keys got one callId")
def an_answer_with_the_call_of_another_request(world: Spoilt) -> None:
    world.asked("withdrawn").answers[0].call_id = world.ids["menu"]


@book("I7", "a call that another request made")
def an_answer_with_the_call_of_a_request_without_answers(world: Spoilt) -> None:
    world.asked("withdrawn").answers[0].call_id = world.ids["answer lost"]


# --- I8 ---


def _limit(world: Spoilt, **limits: int) -> None:
    world.evidence.settings["limits"][PREPAID] |= limits


@book("I8", "more than 1 calls in a second, by the database", ("clock +1 h", 30_000, 40_000))
def too_many_calls_in_a_second(world: Spoilt) -> None:
    _limit(world, calls_per_second=1)
    world.call("silent", "calls", "accepted_at = accepted_at - 500")
    world.fault("upgrade", 35_000, 36_000)


def test_a_limit_may_be_reached(world: Spoilt) -> None:
    _limit(world, calls_per_second=1, calls_at_once=2)
    assert world.found() == []


@book("I8", "2 calls in a second, by the answers")
def too_many_answers_in_a_second(world: Spoilt) -> None:
    _limit(world, calls_per_second=1)
    asked = world.asked("silent")
    asked.sent_at -= 900
    asked.answers[0].at -= 900
    world.fault("upgrade", 35_000, 36_000)
    world.fault("clock -1 h", 30_000, 40_000)  # which does not excuse what others than huibo saw


@book("I8", "2 calls at once, by the database")
def too_many_calls_at_once(world: Spoilt) -> None:
    _limit(world, calls_at_once=1)


@book("I8", "2 calls at once, by the phones", ("kill -9 of Asterisk", 500, 600), ("ARI socket cut", 500, 600))
def too_many_phones_at_once(world: Spoilt) -> None:
    _limit(world, calls_at_once=1)
    world.fault("upgrade", 35_000, 36_000)
    world.fault("clock -1 h", 30_000, 40_000)  # which excuses the database's times alone


# --- I9 ---


@book("I9", "the caller was invited 40.0 s after", ("carrier stopped", 95_000, 119_900))
def a_call_that_is_dialled_late(world: Spoilt) -> None:
    asked = world.asked("withdrawn")
    asked.sent_at -= 40_000
    asked.answers[0].at -= 40_000
    world.call("withdrawn", "calls", "accepted_at = accepted_at - 40000")


def test_a_request_that_was_repeated_until_it_was_heard_is_not_late(world: Spoilt) -> None:
    world.asked("withdrawn").sent_at -= 40_000
    assert world.found() == []


@book("I9", "the caller was invited 40.0 s after")
def a_call_that_is_dialled_late_and_was_never_answered(world: Spoilt) -> None:
    world.asked("answer lost").sent_at -= 40_000
    world.call("answer lost", "calls", "accepted_at = accepted_at - 40000")
    world.fault("kill -9: accepted", 100_000, 150_000)  # which is no excuse


@book("I9", "never dialled, and the CDR does not say")
def a_call_that_is_not_dialled_and_did_not_fail(world: Spoilt) -> None:
    world.call("undialled", "cdrs", "caller_reason = NULL")


@book("I9", "the caller was invited after the call had ended")
def a_phone_that_is_dialled_for_a_call_that_is_over(world: Spoilt) -> None:
    world.late("withdrawn", A, 5000)
    world.fault("upgrade", 119_900, 126_000)  # which excuses only that the CDR does not know of it


def test_an_invite_that_lay_with_a_stopped_carrier_is_excused(world: Spoilt) -> None:
    world.late("withdrawn", A, 5000)
    world.fault("carrier stopped", 119_900, 125_000)
    assert world.found() == []


# --- I10 ---


@book("I10", "after the end of the agreed time", ("kill -9 of Asterisk", 95_000, 96_000))
def a_talk_that_is_too_long(world: Spoilt) -> None:
    for leg in Leg:
        world.late("menu", leg, 70_000, Phone.HUNG_UP)
    world.hear_each_other()
    world.fault("kill -9: talking", 94_500, 170_000)  # which excuses only that the CDR does not know of it


@book("I10", "after the end of the agreed time", ("Asterisk stopped", 150_000, 163_500))
def a_talk_that_goes_on_while_the_engine_is_stopped(world: Spoilt) -> None:
    for leg in Leg:
        world.late("menu", leg, 70_000, Phone.HUNG_UP)
    world.hear_each_other()
    world.fault("upgrade", 94_500, 170_000)


@book("I10", "after the end of the agreed time", ("ARI socket silent", 93_500, 104_500))
def a_talk_whose_beginning_nobody_could_tell(world: Spoilt) -> None:
    for leg in Leg:
        world.late("menu", leg, 70_000, Phone.HUNG_UP)
    world.hear_each_other()
    world.fault("kill -9: talking", 94_500, 170_000)


@book("I10", "after the end of the agreed time")
def a_talk_that_goes_on_after_the_engine_was_stopped(world: Spoilt) -> None:
    for leg in Leg:
        world.late("menu", leg, 90_000, Phone.HUNG_UP)
    world.hear_each_other()
    world.fault("Asterisk stopped", 150_000, 163_500)
    world.fault("upgrade", 94_500, 190_000)


@book("I10", "is still up")
def a_phone_that_is_never_told_of_the_end(world: Spoilt) -> None:
    world.unsee("menu", B, Phone.HUNG_UP)


@book("I10", "after the end that a call may last at all")
def a_caller_who_is_kept_waiting_for_ever(world: Spoilt) -> None:
    world.late("recognised", A, 240_000, Phone.HUNG_UP)
    world.evidence.held.append(Held(world.asked("recognised").sent_at + 300_000, "engine", [], []))
    world.fault("control plane stopped", 210_000, 460_000)  # which is no excuse


@pytest.mark.parametrize("spoil", book.all, ids=str)
def test_what_is_spoilt_is_found(world: Spoilt, spoil: Spoil) -> None:
    judge(world, spoil)
