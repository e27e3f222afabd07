"""What a deliverer asks of the database in one round: one unit of work, which stores what is over and looks
for what may leave now. Decides only whose turn it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from huibo.push.sender import Outcome
from huibo.push.slots import Slots
from huibo.push.targets import STALE_MS, News
from huibo.storage import push_targets
from huibo.storage.outbox import Lease, OwedPush, Verdict, due_pushes, release, save_verdicts, waiting
from huibo.storage.push_secrets import signing
from huibo.storage.push_targets import Key, PushTarget, key_of

_BURIED_AT_ONCE = 1000  # pushes to a disabled target, so that calls do not wait for it

Secrets = dict[str, tuple[str, ...]]  # what signs the pushes of an app
Known = Mapping[Key, PushTarget]
Held = Mapping[str, Collection[int]]  # by receiver, the pushes that this process has in hand


class Judged(NamedTuple):
    """A push whose verdict is not stored yet. `outcome`: its attempt's, if there was one."""

    verdict: Verdict
    outcome: Outcome | None


class Claim(NamedTuple):
    """Pushes to attempt now. More becomes due at `next_at` (UNIX ms), and more is due of the `short`."""

    due: list[OwedPush]
    next_at: int | None
    short: set[str]  # receivers that wait for slots


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the outbox, planned. `after`: the receiver served last."""

    slots: Slots
    held: Held
    after: str
    lease: Lease | None
    known: Known
    stale: bool  # what is known of targets is to be read anew


class Found(NamedTuple):
    """What a look has found."""

    claim: Claim
    secrets: Secrets
    targets: dict[Key, PushTarget] | None  # None: not looked at again


@dataclass(frozen=True, slots=True)
class Round:
    """What is to be done. `left`: pushes that this process will not attempt after all."""

    cell: str
    over: Sequence[Judged]
    news: News
    left: Collection[int]
    burials: Mapping[Key, int]  # pushes to these, behind these ids, are still to be given up
    look: Look | None


class Done(NamedTuple):
    """What has come of it."""

    found: Found | None
    disabled: list[PushTarget]
    burials: dict[Key, int]


def carry_out(connection: Connection, todo: Round, now: int) -> Done:
    """A unit of work. It may be run again."""
    disabled = settle(connection, todo.over, todo.news, now)
    release(connection, todo.cell, todo.left)
    left = _bury(connection, todo.burials, now)
    return Done(_look(connection, todo.look, bool(todo.news), now) if todo.look else None, disabled, left)


def settle(connection: Connection, over: Sequence[Judged], news: News, now: int) -> list[PushTarget]:
    """Store what came of pushes, and what that says of their targets; returns those disabled by it."""
    save_verdicts(connection, [each.verdict for each in over])
    push_targets.forget(connection, news.works)
    return push_targets.fail(connection, news.failed, now - STALE_MS) if news.failed else []


def claim(
    connection: Connection, now: int, slots: Slots, after: str, lease: Lease | None, held: Held
) -> Claim:
    """The pushes to attempt now, but those `held`. Takes their slots from `slots`.

    Receivers get their turns one after the other, beginning behind `after`, those with nothing under way
    first.
    """
    receivers = waiting(connection, now)
    next_at = min((each.later_at for each in receivers if each.later_at is not None), default=None)
    names = sorted(each.receiver for each in receivers if each.first_at <= now)
    turns = [name for name in names if name > after] + [name for name in names if name <= after]
    found = Claim([], next_at, set())
    for name in sorted(turns, key=lambda name: slots.under_way(name) > 0):
        room, own = slots.room(name), held.get(name, ())
        limit = room if lease is not None else room + len(own)  # those held are leased
        due = due_pushes(connection, name, now, limit, lease) if room else []
        if len(due) == limit:
            found.short.add(name)
        for push in [push for push in due if push.id not in own][:room]:
            slots.take(name)
            found.due.append(push)
    return found


def disabled(known: Known, push: OwedPush) -> PushTarget | None:
    """The target of a push, if it is known to be disabled."""
    if not known:
        return None
    target = known.get(key_of(push.app_id, push.url))
    return target if target is not None and target.disabled_at is not None else None


def _look(connection: Connection, look: Look, news: bool, now: int) -> Found:
    claimed = claim(connection, now, look.slots.copy(), look.after, look.lease, look.held)
    again = news or look.stale or any(disabled(look.known, push) for push in claimed.due)
    targets = push_targets.load(connection) if again else None
    return Found(claimed, signing(connection, {push.app_id for push in claimed.due}, now), targets)


def _bury(connection: Connection, burials: Mapping[Key, int], now: int) -> dict[Key, int]:
    """Give up some of what is owed to disabled targets; returns what is left to do."""
    left = {}
    for key, after in burials.items():
        last = push_targets.bury(connection, key, now, after, _BURIED_AT_ONCE)
        if last is not None:
            left[key] = last
    return left
