"""Which numbers the two phones show. Pure; chance comes in as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from huibo.admission.facts import Facts
from huibo.errors import Refusal, Refused
from huibo.model import DisplayMode
from huibo.numbers import national

Choose = Callable[[Sequence[str]], str]


def check_display_numbers(facts: Facts) -> None:
    """Refuse (-102) a display number that is not the app's, and an app that has none to show."""
    request, mode = facts.request, _mode(facts)
    for field, number, passed_through in (
        ("srcDisplayNum", request.caller_display, mode is DisplayMode.MUTUAL),
        ("dstDisplayNum", request.callee_display, mode is not DisplayMode.POOL),
    ):
        if number is not None and number not in facts.pool:
            raise Refused(Refusal.DISPLAY_NUMBER, f"{field}: not a number of this appId")
        if number is None and not passed_through and not facts.pool:
            raise Refused(Refusal.DISPLAY_NUMBER, f"{field}: this appId has no numbers")


def choose_display_numbers(facts: Facts, choose: Choose) -> tuple[str, str]:
    """What the caller's and the callee's phone show, in national digits.

    The requested numbers, else by the app's mode the other party's own or one of the pool.
    """
    request, mode = facts.request, _mode(facts)
    caller, callee = request.caller_display, request.callee_display
    if caller is None:
        caller = national(request.callee) if mode is DisplayMode.MUTUAL else choose(facts.pool)
    if callee is None:
        callee = choose(facts.pool) if mode is DisplayMode.POOL else national(request.caller)
    return caller, callee


def _mode(facts: Facts) -> DisplayMode:
    return facts.app.settings.display if facts.app else DisplayMode.POOL
