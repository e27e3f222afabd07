"""I2: a phone rings at most once per call, and not at all without one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from huibo.model import Leg
from tests.faults.invariants.excuses import CARRIER_STOPPED, named
from tests.faults.invariants.facts import Case, Facts, Ring, Violation

_SILENT = frozenset({408, 480, 500, 502, 503, 504})  # docs/decisions/0018: no phone rang before these
_WAKES_MS = 5000  # a carrier that is let go on works off what has come to it


def check(facts: Facts) -> Iterator[Violation]:
    for case in facts.cases:
        for leg in Leg:
            if case.rings[leg]:
                yield from _number(case, leg, case.rings[leg])
    for number in dict.fromkeys(ring.number for ring in facts.strangers):
        yield Violation("I2", number, "invited, and nobody asked for it")


def _number(case: Case, leg: Leg, rings: list[Ring]) -> Iterator[Violation]:
    whose = leg.name.lower()
    if case.call is None and case.accepted is None:
        yield case.broken("I2", f"the {whose}'s phone was invited for a request that was never accepted")
        return
    rings = _without_late(case, rings)
    if (times := sum(ring.heard_at is not None for ring in rings)) > 1:
        yield case.broken("I2", f"the {whose}'s phone rang {times} times")
        return
    for before, after in pairwise(rings):
        if before.heard_at is not None or before.code not in _SILENT or before.last_at > after.invited_at:
            why = f"refused with {before.code}" if before.code else "that had not been refused"
            yield case.broken("I2", f"the {whose}'s phone was invited again after an INVITE {why}")
    route = case.state.plan.route(leg) if case.state is not None else ()
    if route and len(rings) > len(route):
        yield case.broken(
            "I2", f"the {whose}'s phone was invited {len(rings)} times over {len(route)} trunks"
        )


def _without_late(case: Case, rings: list[Ring]) -> list[Ring]:
    """Excused: an INVITE that lay with a stopped carrier, while another carrier was tried (decision 18)."""
    stops = list(named(case.evidence.faults, CARRIER_STOPPED))
    late = [
        ring
        for ring in rings[1:]
        if any(stop.began_at <= ring.invited_at <= stop.ended_at + _WAKES_MS for stop in stops)
        and ring.carrier != rings[0].carrier
    ]
    return [ring for ring in rings if ring not in late]
