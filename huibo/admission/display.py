"""Which numbers the two phones show. Pure; chance comes in as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from huibo.admission.facts import Facts
from huibo.admission.routing import serving
from huibo.errors import Refusal, Refused
from huibo.model import AppSettings, DisplayMode, Leg
from huibo.numbers import national

Choose = Callable[[Sequence[str]], str]
_FIELDS = {Leg.CALLER: "srcDisplayNum", Leg.CALLEE: "dstDisplayNum"}


def display_numbers(facts: Facts) -> None:
    """A number that is to be shown is one of the app's, and there is one (-102)."""
    for leg, field in _FIELDS.items():
        wanted = asked(facts, leg)
        if wanted is not None and wanted not in facts.pool:
            raise Refused(Refusal.DISPLAY_NUMBER, f"{field}: not a number of this appId")
        if wanted is not None or _passed_through(facts, leg):
            continue
        if _settings(facts).display is DisplayMode.FIXED:
            raise Refused(Refusal.DISPLAY_NUMBER, f"{field}: this appId has no fixed number")
        if not facts.pool:
            raise Refused(Refusal.DISPLAY_NUMBER, f"{field}: this appId has no numbers")


def asked(facts: Facts, leg: Leg) -> str | None:
    """The number that the request, or else the app's fixed choice, names for a leg."""
    request, own = facts.request, _settings(facts)
    named = request.caller_display if leg is Leg.CALLER else request.callee_display
    if named is None and own.display is DisplayMode.FIXED:
        first, second = own.caller_number, own.callee_number
        named = (first or second) if leg is Leg.CALLER else (second or first)
    return named


def choose_display_numbers(facts: Facts, choose: Choose) -> tuple[str, str]:
    """What the caller's and the callee's phone show, in national digits.

    The requested numbers, else by the app's mode: the other party's own, the fixed ones, or one of the pool
    that a trunk to the number may show.
    """
    return _shown(facts, Leg.CALLER, choose), _shown(facts, Leg.CALLEE, choose)


def _shown(facts: Facts, leg: Leg, choose: Choose) -> str:
    if (number := asked(facts, leg)) is not None:
        return number
    if _passed_through(facts, leg):
        return national(facts.request.callee if leg is Leg.CALLER else facts.request.caller)
    return choose(_showable(facts, leg))


def _showable(facts: Facts, leg: Leg) -> Sequence[str]:
    """The numbers of the pool that can be shown on a trunk that takes the leg; all, where there is none."""
    trunks = {trunk.name for trunk in serving(facts, leg)}
    fit = [one.number for one in facts.pool.values() if not one.trunks or not trunks.isdisjoint(one.trunks)]
    return fit or list(facts.pool)


def _passed_through(facts: Facts, leg: Leg) -> bool:
    mode = _settings(facts).display
    return mode is DisplayMode.MUTUAL or (mode is DisplayMode.CALLEE and leg is Leg.CALLEE)


def _settings(facts: Facts) -> AppSettings:
    return facts.app.settings if facts.app else AppSettings()
