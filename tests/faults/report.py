"""What is told of a run: the table of faults and invariants, totals, and each violation.

Pure text. Decides nothing about what is a violation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Protocol

from rich.console import Console
from rich.table import Table

from tests.faults.evidence import Asked, Evidence, Fault

INVARIANTS = tuple(f"I{number}" for number in range(1, 12))
_NONE = "no fault near"
_SHOWN = 60


class Violation(Protocol):
    """As the checker finds it."""

    @property
    def invariant(self) -> str: ...

    @property
    def call(self) -> str | None: ...

    @property
    def text(self) -> str: ...

    @property
    def faults(self) -> tuple[str, ...]: ...


def accepted(asked: Asked) -> bool:
    return any(answer.error_code == "0" for answer in asked.answers)


def tell(console: Console, evidence: Evidence, violations: Sequence[Violation]) -> None:
    """The table, the totals, the violations."""
    console.print(_table(evidence, violations))
    taken = sum(accepted(asked) for asked in evidence.asked)
    refused = Counter(
        asked.answers[-1].error_code if asked.answers else "no answer"
        for asked in evidence.asked
        if not accepted(asked)
    )
    told = ", ".join(f"{count} x {code}" for code, count in refused.most_common()) or "none"
    console.print(
        f"{len(evidence.asked)} calls asked for, {taken} accepted (not: {told}), "
        f"{len(evidence.arrived)} pushes, "
        f"{sum(map(len, evidence.phones.values()))} moments of phones, {len(evidence.faults)} faults"
    )
    for found in violations[:_SHOWN]:
        near = f"  [{', '.join(found.faults)}]" if found.faults else ""
        console.print(
            f"{found.invariant:<4}{found.call or '-'}  {found.text}{near}", markup=False, soft_wrap=True
        )
    if len(violations) > _SHOWN:
        console.print(f"… and {len(violations) - _SHOWN} more")
    console.print(f"{len(violations)} violations", style="bold red" if violations else "bold green")


def _table(evidence: Evidence, violations: Sequence[Violation]) -> Table:
    table = Table(title="Violations by fault and invariant", title_justify="left")
    table.add_column("fault")
    for name in ("done", "calls", *INVARIANTS):
        table.add_column(name, justify="right")
    found = Counter((fault, one.invariant) for one in violations for fault in set(one.faults) or {_NONE})
    names = sorted({fault.name for fault in evidence.faults})
    for name in [*names, *([_NONE] if any(fault == _NONE for fault, _ in found) else [])]:
        done = [fault for fault in evidence.faults if fault.name == name]
        cells = [str(found[name, invariant] or "·") for invariant in INVARIANTS]
        table.add_row(name, str(len(done) or ""), str(_through(evidence, done) or ""), *cells)
    totals = Counter(one.invariant for one in violations)
    table.add_section()
    table.add_row("all", str(len(evidence.faults)), "", *(str(totals[one] or "·") for one in INVARIANTS))
    return table


def _through(evidence: Evidence, faults: Sequence[Fault]) -> int:
    """How many accepted calls were going on while one of these faults was."""
    heard_of: dict[str, int] = {}  # by number, the last moment
    for event in chain.from_iterable(evidence.phones.values()):
        at = int(event.at.timestamp() * 1000)
        heard_of[event.number] = max(at, heard_of.get(event.number, 0))

    def through(asked: Asked) -> bool:
        numbers = (asked.body[name].removeprefix("0086") for name in ("src", "dst"))
        over_at = max(asked.sent_at, *(heard_of.get(number, 0) for number in numbers))
        return any(asked.sent_at <= fault.ended_at and over_at >= fault.began_at for fault in faults)

    return sum(through(asked) for asked in evidence.asked if accepted(asked))
