"""Over which trunk a call goes. Pure and deterministic given the facts."""

from __future__ import annotations

from huibo.admission.facts import Facts
from huibo.errors import Refusal, Refused
from huibo.model import Trunk


def check_line(facts: Facts) -> None:
    """Refuse (-3) when no trunk can take the call."""
    if not any(trunk.enabled for trunk in facts.trunks):
        raise Refused(Refusal.NO_LINE)


def choose_trunk(facts: Facts) -> Trunk:
    """The first trunk in use, another one than the last call's if there is one.

    `check_line` has seen that there is any.
    """
    usable = [trunk for trunk in facts.trunks if trunk.enabled]
    return next((trunk for trunk in usable if trunk.name != facts.last_trunk), usable[0])
