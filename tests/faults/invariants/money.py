"""I3: balance = credits - charges, nothing is held for what is over, each conversation is paid for once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from sqlalchemy import RowMapping

from huibo.flow.state import CallState
from huibo.model import CallResult, Cdr, Leg
from huibo.rating import PER_YUAN, affordable_s, cost
from tests.faults.invariants.facts import Case, Facts, Violation

_BALANCE = {"credit": 1, "adjustment": 1, "charge": -1}
_HELD = {"hold": 1, "release": -1}
_PAID = ("credit", "adjustment")


def check(facts: Facts) -> Iterator[Violation]:
    apps = {row["app_id"] for row in facts.stored.ledger} | facts.stored.accounts.keys()
    for app in sorted(apps | facts.evidence.settings.get("credit_yuan", {}).keys()):
        yield from _account(facts, app, [row for row in facts.stored.ledger if row["app_id"] == app])
    entries: dict[str, list[RowMapping]] = {}
    for row in facts.stored.ledger:
        if row["call_id"] is not None:
            entries.setdefault(row["call_id"], []).append(row)
    for call_id in entries.keys() - facts.calls.keys():
        yield Violation("I3", call_id, "the ledger has entries of a call that does not exist")
    for call_id, case in facts.calls.items():
        yield from _call(facts, case, entries.get(call_id, []))


def _account(facts: Facts, app_id: str, rows: list[RowMapping]) -> Iterator[Violation]:
    balance = held = 0
    app = facts.stored.apps.get(app_id)
    for row in rows:
        balance += _BALANCE.get(row["kind"], 0) * row["amount"]
        held += _HELD.get(row["kind"], 0) * row["amount"]
        about = f"ledger entry {row['id']} of {app_id}"
        if (row["balance"], row["held"]) != (balance, held):
            yield Violation("I3", row["call_id"] or "", f"{about} does not follow from those before it")
            return
        if app is not None and app.settings.prepaid and not balance >= held >= 0:
            yield Violation("I3", row["call_id"] or "", f"{about}: balance {balance}, held {held}")
            return
    stored = facts.stored.accounts.get(app_id)
    now = (stored["balance"], stored["held"]) if stored else (0, 0)
    if now != (balance, held):
        yield Violation(
            "I3", "", f"the account of {app_id} has {now}, its ledger sums up to {(balance, held)}"
        )
    going_on = sum(_hold(case.state) for case in facts.calls.values() if _of(case, app_id) and not case.cdr)
    if held != going_on:
        yield Violation("I3", "", f"{held} held of {app_id}, calls that go on have {going_on}")
    paid = facts.evidence.settings.get("credit_yuan", {}).get(app_id)
    credits_of = sum(row["amount"] for row in rows if row["kind"] in _PAID)
    if paid is not None and credits_of != Decimal(str(paid)) * PER_YUAN:
        yield Violation("I3", "", f"{paid} yuan were paid in by {app_id}, the ledger has {credits_of}")


def _call(facts: Facts, case: Case, rows: list[RowMapping]) -> Iterator[Violation]:
    assert case.call is not None
    assert case.state is not None
    budget = case.state.plan.budget
    app = facts.stored.apps.get(case.call.app_id)
    rates = tuple(facts.stored.rates[case.call.call_id, leg] for leg in Leg)
    own = (budget.caller, budget.callee) if budget is not None else (None, None)
    if app is not None and own != rates:
        yield case.broken("I3", "not priced by its app's rates")
    if any(row["app_id"] != case.call.app_id for row in rows):
        yield case.broken("I3", "another app's account was moved")
    kinds = Counter(row["kind"] for row in rows)
    if any(count > 1 for count in kinds.values()):
        yield case.broken("I3", f"moved twice: {dict(kinds)}")
        return
    amounts: dict[str, int] = {row["kind"]: row["amount"] for row in rows}
    hold = _hold(case.state)
    expected: dict[str, int] = {"hold": hold}
    if case.cdr is not None:
        charge = _charge(case.state, case.cdr)
        expected |= {"release": hold, "charge": charge}
        if case.cdr.charge != charge:
            yield case.broken("I3", f"the CDR charges {case.cdr.charge}, by its times it is {charge}")
    expected = {kind: amount for kind, amount in expected.items() if amount}
    if amounts != expected:
        yield case.broken("I3", f"the ledger has {amounts}, not {expected}")


def _charge(state: CallState, cdr: Cdr) -> int:
    """docs/decisions/0016: conversations only, up to what was agreed or can be paid, never above the hold."""
    budget, caller, callee = state.plan.budget, cdr.caller, cdr.callee
    if budget is None or cdr.result is not CallResult.TALKED:
        return 0
    assert caller.answered_at is not None
    assert callee.answered_at is not None
    ends = [one.ended_at for one in (caller, callee) if one.ended_at is not None]
    lead_ms = max(0, callee.answered_at - caller.answered_at)
    most_s = state.plan.max_talk_s
    if budget.hold is not None:
        most_s = affordable_s(budget, budget.hold, most_s, lead_ms)
    talk_ms = min(max(0, min(ends) - callee.answered_at), most_s * 1000)
    price = cost(budget, lead_ms + talk_ms, talk_ms)
    return price if budget.hold is None else min(price, budget.hold)


def _hold(state: CallState | None) -> int:
    return (state.plan.budget.hold or 0) if state is not None and state.plan.budget is not None else 0


def _of(case: Case, app_id: str) -> Any:
    return case.call is not None and case.call.app_id == app_id
