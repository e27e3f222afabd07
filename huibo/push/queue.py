"""Pushes in hand that wait for a slot. Bounded: what has no place rests in the outbox. Pure bookkeeping."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from huibo.push.slots import Slots
from huibo.storage.outbox import OwedPush

_MOST, _MOST_OF_ONE = 4096, 64  # pushes in all, and for one receiver


class Ready(NamedTuple):
    """A push, and what signs it."""

    push: OwedPush
    secrets: Sequence[str]


class Queue:
    """First come, first served for each receiver; the receivers take turns."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._of: dict[str, deque[Ready]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def has_place(self, receiver: str) -> bool:
        waiting = self._of.get(receiver)
        return self._count < _MOST and (waiting is None or len(waiting) < _MOST_OF_ONE)

    def put(self, push: OwedPush, secrets: Sequence[str]) -> None:
        self._of.setdefault(push.receiver, deque()).append(Ready(push, secrets))
        self._count += 1

    def next(self) -> Ready | None:
        """Take out one that there is a slot for."""
        for receiver, waiting in self._of.items():
            if self._slots.room(receiver):
                ready = waiting.popleft()
                self._count -= 1
                del self._of[receiver]
                if waiting:
                    self._of[receiver] = waiting  # behind the others
                return ready
        return None
