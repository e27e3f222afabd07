"""Whether an app can pay for a call, and what is held for it. Pure."""

from __future__ import annotations

from huibo.admission.facts import Facts
from huibo.errors import Refusal, Refused
from huibo.rating import Budget, affordable_s, cost

_MENU_ALLOWANCE_S = 60  # beside the ringing: how long prompts are is not known yet


def rates(facts: Facts) -> None:
    """There is a price for both numbers where the app pays by one (-501: ours to mend, no customer's)."""
    if facts.app is None or facts.app.settings.rate_plan is None:
        return
    for party, rate in (("src", facts.caller_rate), ("dst", facts.callee_rate)):
        if rate is None:
            raise Refused(Refusal.UNAVAILABLE, f"{party}: no rate for this number")


def balance(facts: Facts) -> None:
    """A prepaid app can pay for the first interval of both legs (-105)."""
    priced = budget(facts)
    if priced is not None and priced.hold is not None and not affordable_s(priced, priced.hold, 1):
        raise Refused(Refusal.BALANCE)


def budget(facts: Facts) -> Budget | None:
    """What the call costs and what is to be held for it: all of it, or as much as there is.

    None: it costs nothing.
    """
    if facts.app is None or facts.caller_rate is None or facts.callee_rate is None:
        return None
    price = Budget(facts.caller_rate, facts.callee_rate)
    if not facts.app.settings.prepaid:
        return price
    lead_s = facts.callee_ring_s + (_MENU_ALLOWANCE_S if facts.request.menu else 0)
    most = cost(price, (lead_s + facts.max_talk_s) * 1000, facts.max_talk_s * 1000)
    return Budget(price.caller, price.callee, hold=max(0, min(most, facts.available)))
