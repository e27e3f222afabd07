"""The checker finds nothing wrong with a true world, and in a spoilt one just what was spoilt (I1 to I3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from huibo.model import Leg
from huibo.sandbox.journal import PhoneMoment as Phone
from tests.faults.checker import check
from tests.faults.evidence import Answer
from tests.faults.nemesis import KINDS
from tests.faults.spoiling import Book, Spoil, Spoilt, judge
from tests.faults.true_world import BEGAN, PREPAID, TrueWorld

A, B = Leg
UNKNOWN = "12-251122-" + "f" * 32
book = Book()
_BLIND = ("kill", "upgrade", "control", "Asterisk", "ARI", "carrier stopped", "events")


def test_nothing_is_wrong_with_a_true_world(true_world: TrueWorld) -> None:
    assert check(true_world.evidence) == []
    results = {kind for log in true_world.evidence.phones.values() for kind in (one.event for one in log)}
    assert results >= {*Phone} - {Phone.EARLY_MEDIA}  # it is not an empty world


def test_a_violation_names_the_faults_that_its_call_went_through(world: Spoilt) -> None:
    world.drop("menu", "cdrs")
    for name, began, ended in (
        ("long before", 0, 60_000),
        ("while it rang", 90_500, 91_000),
        ("all the time", 0, 10**6),
        ("long after", 150_000, 160_000),
    ):
        world.fault(name, began, ended)
    (found,) = world.found()
    assert (found.call, found.faults) == (world.ids["menu"], ("while it rang", "all the time"))


# --- I1 ---


@book("I1", "which the database does not know")
def a_call_that_was_promised_is_not_there(world: Spoilt) -> None:
    world.asked("refused").answers = [Answer(BEGAN + 2008, "0", UNKNOWN)]


@book("I1", "without CDR")
def a_call_without_a_cdr(world: Spoilt) -> None:
    world.drop("menu", "cdrs")


@book("I1", "without end")
def a_call_without_an_end(world: Spoilt) -> None:
    world.call("withdrawn", "calls", "ended_at = NULL")


@book("I1", "without terminal state")
def a_call_whose_state_goes_on(world: Spoilt) -> None:
    world.state("withdrawn", "$.ended_at", None)


@book("I1", "three different ends")
def a_call_that_ended_otherwise_than_its_cdr(world: Spoilt) -> None:
    world.call("withdrawn", "calls", "ended_at = ended_at + 1")


@book("I1", "nobody asked for this call")
def a_call_that_nobody_asked_for(world: Spoilt) -> None:
    world.evidence.asked.remove(world.asked("withdrawn"))


@book("I1", "a CDR without a call")
def a_cdr_without_a_call(world: Spoilt) -> None:
    world.drop("withdrawn", "calls")


@book("I1", "the CDR has 6 s")
def a_cdr_that_reckons_wrong(world: Spoilt) -> None:
    world.call("menu", "cdrs", "talk_s = talk_s + 1")


@book("I1", "its legs say caller_unreached")
def a_cdr_with_another_result_than_its_legs(world: Spoilt) -> None:
    world.call("withdrawn", "cdrs", "result = 'caller_no_answer'")
    world.push_as(*world.pushes("withdrawn", "cdr"), callEndStatus="2")


@book("I1", "not that of its last leg")
def a_cdr_that_ends_before_its_legs(world: Spoilt) -> None:
    world.call("withdrawn", "cdrs", "ended_at = ended_at - 1")
    world.call("withdrawn", "calls", "ended_at = ended_at - 1")
    world.state("withdrawn", "$.ended_at", BEGAN + 120_079)


@book("I1", "not that of its last leg")
def a_conversation_that_ends_after_a_leg_of_it_was_lost(world: Spoilt) -> None:
    world.call("talk", "cdrs", "callee_reason = 'lost'")


def test_a_conversation_ends_with_a_leg_that_is_lost(world: Spoilt) -> None:
    world.call("menu", "cdrs", "callee_reason = 'lost', ended_at = callee_ended_at")
    world.call("menu", "calls", "ended_at = ended_at - 20")
    world.state("menu", "$.ended_at", BEGAN + 99_000)
    assert world.found() == []


@book("I1", "before it was asked", ("clock -1 h", 0, 60_000))
def a_call_that_was_accepted_an_hour_before_it_was_asked_for(world: Spoilt) -> None:
    world.call("withdrawn", "calls", "accepted_at = accepted_at - 3600000")
    world.fault("upgrade", 50_000, 52_000)


@book("I1", "before it was asked")
def a_call_that_was_accepted_before_it_was_asked_for(world: Spoilt) -> None:
    world.call("withdrawn", "calls", "accepted_at = accepted_at - 20000")
    world.fault("upgrade", 50_000, 52_000)
    world.fault("clock -1 h", 0, 60_000)  # which was no matter of seconds


@book("I1", "after it answered")
def a_call_that_was_accepted_after_the_answer(world: Spoilt) -> None:
    world.call("withdrawn", "calls", "accepted_at = accepted_at + 20000")


@book("I1", "callee answered, the phone never was")
def an_answer_that_no_phone_gave(world: Spoilt) -> None:
    world.unsee("menu", B, Phone.ANSWERED)
    world.fault("kill -9: talking", 90_000, 100_000)  # which is no excuse


@book("I1", "caller ringing, the phone never was")
def a_ringing_that_no_phone_knows_of(world: Spoilt) -> None:
    world.unsee("answer lost", A, Phone.RINGING)


@book("I1", "caller invited, the phone never was")
def an_invite_that_no_phone_knows_of(world: Spoilt) -> None:
    world.unsee("withdrawn", A)


@book("I1", "callee's phone was invited, the CDR", ("ARI socket cut", 120_050, 120_060))
def an_invite_that_the_cdr_does_not_know_of(world: Spoilt) -> None:
    world.saw("withdrawn", B, 50, Phone.INVITED, Phone.REFUSED, code=486)


@book("I1", "caller's phone answered, the CDR", ("upgrade", 155_000, 156_000))
def an_answer_that_the_cdr_does_not_know_of(world: Spoilt) -> None:
    world.saw("answer lost", A, 5000, Phone.ANSWERED)


def test_only_what_blinds_the_control_plane_excuses_that_it_saw_nothing(world: Spoilt) -> None:
    an_answer_that_the_cdr_does_not_know_of(world)
    for name in (kind.name for kind in KINDS):
        world.evidence.faults.clear()
        world.fault(name, 0, 147_000)  # long before it
        assert [one.invariant for one in world.found()] == ["I1"], name
        world.fault(name, 155_000, 156_000)
        expected = [] if name.startswith(_BLIND) else ["I1"]
        assert [one.invariant for one in world.found()] == expected, name


@book("I1", "caller's phone rang, the CDR", ("Asterisk stopped", 120_000, 121_000))
def a_ringing_that_the_cdr_does_not_know_of(world: Spoilt) -> None:
    world.saw("withdrawn", A, 40, Phone.RINGING)
    world.late("withdrawn", A, 1000, Phone.HUNG_UP)


@book("I1", "refused with 603, the CDR has 486", ("carrier stopped", 211_000, 211_100))
def a_code_that_is_not_the_phones(world: Spoilt) -> None:
    world.unsee("recognised", B, Phone.REFUSED)
    world.saw("recognised", B, 1068, Phone.REFUSED, code=603)


@book("I1", "callee answered -3005 ms", ("events shaken", 92_000, 98_000))
def an_answer_at_another_time_than_the_phones(world: Spoilt) -> None:
    world.late("menu", B, 3010, Phone.ANSWERED)


@book(
    "I1",
    "callee ended -5995 ms",
    ("kill -9: talking", 99_000, 104_000),
    ("kill -9 of Asterisk", 98_000, 99_000),
)
def an_end_that_is_further_from_the_phones_than_a_fault_was_long(world: Spoilt) -> None:
    world.late("menu", B, 5997, Phone.HUNG_UP)
    world.fault("upgrade", 99_000, 100_000)


def test_the_end_of_a_phone_is_not_that_of_a_later_attempt_which_came_to_none(world: Spoilt) -> None:
    world.late("menu", B, 5997, Phone.HUNG_UP)
    assert any("callee ended -5995 ms" in one.text for one in world.found())
    ended = world.sql("SELECT callee_ended_at FROM cdrs WHERE call_id = ?", world.ids["menu"])
    world.state("menu", "$.callee.dialled_at", ended[0][0] + 7000)
    assert not any("callee ended" in one.text for one in world.found())


@book("I1", "callee answered +")
def a_whole_call_by_a_clock_that_nobody_set(world: Spoilt) -> None:
    world.by_wrong_clock("menu", 3600)


def test_only_a_start_by_a_wrong_clock_excuses_its_times(world: Spoilt) -> None:
    world.by_wrong_clock("menu", 3600)
    world.fault("clock +1 h", 80_000, 95_000)
    assert {one.invariant for one in world.found()} == {"I1"}  # who lives on does not follow the clock
    world.fault("upgrade", 82_000, 83_000)
    assert world.found() == []


@book("I1", "the platform failed", ("kill -9: dialling", 225_000, 232_000))
def a_failure_of_the_platform_without_a_fault(world: Spoilt) -> None:
    world.call("undialled", "cdrs", "result = 'unknown', caller_reason = 'expired'")
    world.push_as(*world.pushes("undialled", "cdr"), callEndStatus="0")


# --- I2 ---


@book("I2", "callee's phone rang 2 times", ("carrier stopped", 93_500, 93_600))
def a_phone_that_rang_twice(world: Spoilt) -> None:
    world.saw("menu", B, 3700, Phone.INVITED, Phone.RINGING, carrier="second", call="again")
    world.saw("menu", B, 8990, Phone.HUNG_UP, carrier="second", call="again")


@book("I2", "rang 2 times")
def a_phone_that_rang_twice_at_the_same_carrier(world: Spoilt) -> None:
    world.saw("recognised", B, 1060, Phone.RINGING)
    world.saw("recognised", B, 1071, Phone.INVITED, Phone.EARLY_MEDIA, Phone.REFUSED, code=486, call="again")
    world.fault("kill -9: ringing", 210_000, 212_000)  # which is no excuse


@book("I2", "refused with 486")
def a_phone_that_is_invited_again_after_a_final_refusal(world: Spoilt) -> None:
    again = (Phone.INVITED, Phone.REFUSED)
    world.saw("recognised", B, 1071, *again, code=486, carrier="second", call="again")


@book("I2", "that had not been refused")
def a_phone_that_is_invited_again_while_nothing_is_known(world: Spoilt) -> None:
    world.saw("withdrawn", A, 50, Phone.INVITED, Phone.HUNG_UP, carrier="second", call="again")


@book("I2", "again after an INVITE refused with 503")
def a_phone_that_is_invited_again_after_ringing(world: Spoilt) -> None:
    world.unsee("recognised", B, Phone.REFUSED)
    world.saw("recognised", B, 1055, Phone.RINGING, Phone.REFUSED, code=503)
    again = (Phone.INVITED, Phone.REFUSED)
    world.saw("recognised", B, 1066, *again, code=486, carrier="second", call="again")


@book("I2", "3 times over 2 trunks")
def a_phone_that_is_invited_more_often_than_there_are_trunks(world: Spoilt) -> None:
    world.saw("failover", A, 42, Phone.INVITED, Phone.REFUSED, code=503, call="again")


@book("I2", "a request that was never accepted")
def a_phone_that_is_invited_for_a_refused_request(world: Spoilt) -> None:
    world.saw("refused", B, 50, Phone.INVITED)


@book("I2", "nobody asked for it")
def a_phone_that_nobody_asked_for(world: Spoilt) -> None:
    stranger = replace(world.evidence.phones["sandbox"][0], number="13999999901", call="strange")
    world.evidence.phones["sandbox"].append(stranger)


# --- I3 ---


@book("I3", "has (")
def an_account_that_is_not_its_ledgers_sum(world: Spoilt) -> None:
    world.sql("UPDATE accounts SET balance = balance + 1")


@book("I3", "has (")
def an_account_that_still_holds(world: Spoilt) -> None:
    world.sql("UPDATE accounts SET held = 5")


@book("I3", "does not follow")
def an_entry_that_does_not_follow(world: Spoilt) -> None:
    world.call("silent", "ledger", "balance = balance + 1")


@book("I3", "held of prepaid, calls that go on have 0")
def a_hold_that_is_never_released(world: Spoilt) -> None:
    world.drop("failover", "ledger", "AND kind = 'release'")
    world.reledger()


@book("I3", "balance 1, held")
def a_balance_below_what_is_held(world: Spoilt) -> None:
    world.sql("UPDATE ledger SET amount = 1 WHERE kind = 'credit'")
    world.evidence.settings["credit_yuan"][PREPAID] = "0.00001"
    world.reledger()


@book("I3", "41 yuan were paid in")
def money_that_never_arrived(world: Spoilt) -> None:
    world.evidence.settings["credit_yuan"][PREPAID] = "41"


@book("I3", "the ledger has")
def a_charge_that_is_not_the_rules(world: Spoilt) -> None:
    world.sql("UPDATE ledger SET amount = amount + 1 WHERE kind = 'charge'")
    world.reledger()


@book("I3", "by its times it is")
def a_cdr_with_another_charge(world: Spoilt) -> None:
    world.call("talk", "cdrs", "charge = charge + 1")


@book("I3", "the ledger has")
def a_conversation_that_is_not_paid_for(world: Spoilt) -> None:
    world.drop("talk", "ledger", "AND kind = 'charge'")
    world.reledger()


@book("I3", "moved twice")
def a_conversation_that_is_paid_for_twice(world: Spoilt) -> None:
    columns = "app_id, at, kind, amount, call_id, balance, held, author, reason"
    world.sql(f"INSERT INTO ledger ({columns}) SELECT {columns} FROM ledger WHERE kind = 'charge'")
    world.reledger()


@book("I3", "the ledger has {'charge': 5}, not {}")
def a_charge_without_a_conversation(world: Spoilt) -> None:
    _enter(world, world.ids["withdrawn"], "demo")


@book("I3", "a call that does not exist")
def a_charge_without_a_call(world: Spoilt) -> None:
    _enter(world, UNKNOWN, PREPAID)


@book("I3", "another app's account")
def a_charge_of_another_apps_account(world: Spoilt) -> None:
    world.call("talk", "ledger", "app_id = 'demo'")
    world.reledger()


@book("I3", "not priced by its app's rates")
def a_call_at_another_price(world: Spoilt) -> None:
    world.state("talk", "$.plan.budget.caller.per_minute", 5999)


def _enter(world: Spoilt, call_id: str, app: str) -> None:
    world.sql(
        "INSERT INTO ledger (app_id, at, kind, amount, call_id, balance, held, author, reason)"
        " VALUES (?, 0, 'charge', 5, ?, 0, 0, '', '')",
        *(app, call_id),
    )
    world.reledger()


@pytest.mark.parametrize("spoil", book.all, ids=str)
def test_what_is_spoilt_is_found(world: Spoilt, spoil: Spoil) -> None:
    judge(world, spoil)
