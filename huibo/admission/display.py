"""Which numbers the two phones show. Pure; chance comes in as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from huibo.admission.facts import Facts
from huibo.errors import Refusal, Refused

Choose = Callable[[Sequence[str]], str]


def check_display_numbers(facts: Facts) -> None:
    """Refuse (-102) a display number that is not the app's, and an app that has none to show."""
    request = facts.request
    for field, number in (
        ("srcDisplayNum", request.caller_display),
        ("dstDisplayNum", request.callee_display),
    ):
        if number is not None and number not in facts.pool:
            raise Refused(Refusal.DISPLAY_NUMBER, f"{field}: not a number of this appId")
        if number is None and not facts.pool:
            raise Refused(Refusal.DISPLAY_NUMBER, f"{field}: this appId has no numbers")


def choose_display_numbers(facts: Facts, choose: Choose) -> tuple[str, str]:
    """What the caller's and the callee's phone show: the requested numbers, else one of the pool."""
    request = facts.request
    return request.caller_display or choose(facts.pool), request.callee_display or choose(facts.pool)
