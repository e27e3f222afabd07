"""Judges a run of faults by its evidence: which invariants were broken, by which call, beside which faults.

Believes huibo only where nobody else saw it. Changes nothing and can be asked again at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.faults.evidence import Evidence
from tests.faults.invariants import (
    channels,
    dispatch,
    ends,
    keys,
    limits,
    money,
    pushes,
    recordings,
    rings,
    talk,
    voices,
)
from tests.faults.invariants.facts import Facts, Violation, gather

INVARIANTS: dict[str, Callable[[Facts], Iterator[Violation]]] = {
    "I1": ends.check,
    "I2": rings.check,
    "I3": money.check,
    "I4": channels.check,
    "I5": pushes.check,
    "I6": recordings.check,
    "I7": keys.check,
    "I8": limits.check,
    "I9": dispatch.check,
    "I10": talk.check,
    "I11": voices.check,
}


def check(evidence: Evidence) -> list[Violation]:
    """All that was broken, invariant by invariant. Nobody may write to the database meanwhile."""
    facts = gather(evidence)
    return [violation for rule in INVARIANTS.values() for violation in rule(facts)]
