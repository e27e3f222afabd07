"""How much an app may call: at once, in a second, to one callee; and whom it may not call at all. Pure."""

from __future__ import annotations

from huibo.admission.facts import Facts
from huibo.errors import Refusal, Refused
from huibo.model import AppSettings, Leg

SECOND_MS = 1000


def blacklist(facts: Facts) -> None:
    """Neither party is on the blacklist (-110)."""
    if facts.listed is not None:
        party = "src" if facts.listed is Leg.CALLER else "dst"
        raise Refused(Refusal.BLACKLIST, f"{party}: number on the blacklist")


def callee_calls(facts: Facts) -> None:
    """The callee has not been called too often (-423)."""
    own, usage = _settings(facts), facts.usage
    if own.callee_per_hour is not None and usage.callee_hour >= own.callee_per_hour:
        raise Refused(Refusal.BLOCKED, "dst: called too often in an hour")
    if own.callee_per_day is not None and usage.callee_day >= own.callee_per_day:
        raise Refused(Refusal.BLOCKED, "dst: called too often in a day")


def calls_per_second(facts: Facts) -> None:
    """In no second, wherever it begins, are more calls accepted than agreed (-423)."""
    own, before = _settings(facts), facts.usage.nth_last_at
    if own.calls_per_second is not None and before is not None and facts.now - before <= SECOND_MS:
        raise Refused(Refusal.BLOCKED, "too many calls per second")


def calls_at_once(facts: Facts) -> None:
    """No more calls are going on than agreed (-423)."""
    own = _settings(facts)
    if own.calls_at_once is not None and facts.usage.live >= own.calls_at_once:
        raise Refused(Refusal.BLOCKED, "too many calls at once")


def _settings(facts: Facts) -> AppSettings:
    return facts.app.settings if facts.app else AppSettings()
