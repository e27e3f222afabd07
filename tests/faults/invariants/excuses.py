"""The names of the faults that make a witness blind or a promise impossible to keep, and nothing else.

A rule names here what it excuses; each excuse is for the time of such a fault only. A name is the beginning
of a fault's name: what follows says where it was done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.faults.evidence import Fault

# The engine is gone without a word to the phones: they stay up until their own end, its timers are gone.
ENGINE_KILLED = ("kill -9 of Asterisk",)
# Its timers run out when it is let go on.
ENGINE_STOPPED = ("Asterisk stopped",)
# A carrier that is stopped hears and tells everything when it is let go on: the INVITE too.
CARRIER_STOPPED = ("carrier stopped",)
CONTROL_AWAY = ("kill -9:", "upgrade", "control plane stopped")
SOCKET = ("ARI socket",)
CLOCK = ("clock",)
CLOCK_STEP_MS = 3_600_000
RECEIVERS = ("receiver",)
# What the control plane last knew it could not write down.
DATABASE_AWAY = ("database", "table locked", "backends ended")
# The control plane does not see what happens at the moment when it happens, or not in its order.
BLINDFOLD = (*CONTROL_AWAY, *SOCKET, *ENGINE_KILLED, *ENGINE_STOPPED, *CARRIER_STOPPED, "events shaken")
# The control plane cannot tell the engine to end anything.
NO_WORD = (*CONTROL_AWAY, *SOCKET, *ENGINE_STOPPED)
# Calls end, for the control plane, while their phones are still up.
PHONES_OUTLIVE = (*SOCKET, *ENGINE_KILLED, *ENGINE_STOPPED, *CARRIER_STOPPED)
# Nobody's voice gets through.
SILENT = (*ENGINE_STOPPED, *CARRIER_STOPPED)
# Of a talk nothing is written down: nothing comes, or there is no room.
UNWRITTEN = (*SILENT, "recording disk full")
ANY = ("",)


def named(faults: Iterable[Fault], names: tuple[str, ...]) -> Iterator[Fault]:
    """Those of these names."""
    return (fault for fault in faults if fault.name.startswith(names))


def wrong_starts(faults: Iterable[Fault]) -> list[Fault]:
    """The steps of the clock in which a control plane was started: one that lives on does not follow them."""
    faults = list(faults)
    away = list(named(faults, CONTROL_AWAY))
    return [
        step
        for step in named(faults, CLOCK)
        if any(one.began_at <= step.ended_at and one.ended_at >= step.began_at for one in away)
    ]


def shared_ms(fault: Fault, begin: int, end: int) -> int:
    """How much of a period lies within a fault."""
    return max(0, min(end, fault.ended_at) - max(begin, fault.began_at))


def unshared_ms(faults: Iterable[Fault], begin: int, end: int) -> int:
    """How much of a period lies within none of these faults."""
    rest = 0
    for fault in sorted(faults, key=lambda fault: fault.began_at):
        rest += max(0, min(end, fault.began_at) - begin)
        begin = max(begin, fault.ended_at)
    return rest + max(0, end - begin)
