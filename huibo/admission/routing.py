"""Over which trunks a leg goes, in which order. Pure and deterministic given the facts.

Chance among equals hangs on the call's id: the same facts give the same route, and over many calls each
trunk gets its share.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from huibo.admission.facts import Facts
from huibo.errors import Refusal, Refused
from huibo.model import DisplayNumber, Leg, Trunk, TrunkState


def line(facts: Facts) -> None:
    """Each leg has a trunk that takes it now, with a number that may be shown there (-3)."""
    for leg in Leg:
        if not serving(facts, leg):
            party = "src" if leg is Leg.CALLER else "dst"
            raise Refused(Refusal.NO_LINE, f"no line available for {party}")


def serving(facts: Facts, leg: Leg) -> list[Trunk]:
    """The trunks that take a leg now, in no order."""
    number = (facts.request.caller if leg is Leg.CALLER else facts.request.callee).removeprefix("+")
    return [
        trunk
        for trunk in facts.trunks
        if trunk.state is TrunkState.ACTIVE
        and trunk.name not in facts.closed
        and (not trunk.prefixes or number.startswith(trunk.prefixes))
    ]


def may_show(trunk: Trunk, number: DisplayNumber) -> bool:
    return not number.trunks or trunk.name in number.trunks


def route(facts: Facts, leg: Leg, shown: str, taken: str | None = None) -> tuple[str, ...]:
    """The trunks to be tried for a leg that shows a number, in their order. Refuses (-3) where there is none.

    First those that the last call did not take; then by priority, cost, and weighted chance. `taken`: where
    the other leg takes a channel.
    """
    number = facts.pool.get(shown)
    fit = [
        one
        for one in serving(facts, leg)
        if (number is None or may_show(one, number))
        and (one.name != taken or facts.room.get(one.name, 2) > 1)
    ]
    if not fit:
        raise Refused(Refusal.NO_LINE, f"no line available that may show {shown}")
    return tuple(trunk.name for trunk in in_order(fit, facts.avoid, f"{facts.call_id}-{leg.value}"))


def in_order(trunks: Sequence[Trunk], avoid: frozenset[str], seed: str) -> list[Trunk]:
    """Trunks in the order in which they are tried."""
    return sorted(
        trunks,
        key=lambda one: (one.name in avoid, one.priority, one.cost, _lot(seed, one), one.name),
    )


def _lot(seed: str, trunk: Trunk) -> float:
    """Weighted rendezvous hashing: the smallest of these falls to each trunk by the share of its weight."""
    digest = hashlib.blake2b(f"{seed} {trunk.name}".encode(), digest_size=7).digest()
    chance = (int.from_bytes(digest) + 1) / (1 << 56)
    return -math.log(chance) / trunk.weight
