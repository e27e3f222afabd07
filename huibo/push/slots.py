"""Who may have how many attempts under way, so that receivers that hang cost the others nothing.

Pure bookkeeping. Does not know what is due, nor since when.
"""

from __future__ import annotations

from huibo.storage.outbox import REPLAY_LANE

_REMEMBERED = 1_000  # receivers known to answer; forgetting one only makes it start small again


class Slots:
    """The attempts under way. Four bounds, of which the last two keep room for the others:

    - at most `total` in all, at most `per_receiver` towards one;
    - a receiver whose last attempt got an answer has all of that. One that is new or let the last attempt
      hang is on trial: a quarter of it;
    - all those on trial together have half of `total`: dead receivers, however many, leave the other half;
    - the last quarter of either is only for receivers that have nothing under way.

    What is sent once more to a receiver has a lane of its own, under a name of its own: both lanes together
    have what one receiver may have, and that one at most a quarter of it.
    """

    def __init__(self, total: int, per_receiver: int) -> None:
        self._total = total
        self._per_receiver = per_receiver
        self._used = 0
        self._on_trial = 0  # of these, towards receivers that do not answer
        self._under_way: dict[str, int] = {}
        self._answering: dict[str, None] = {}  # the least recent first

    def __len__(self) -> int:
        return self._used

    def under_way(self, receiver: str) -> int:
        """How many attempts towards a receiver there are."""
        return self._under_way.get(receiver, 0)

    def take(self, receiver: str) -> None:
        self._used += 1
        self._on_trial += receiver.removesuffix(REPLAY_LANE) not in self._answering
        self._under_way[receiver] = self.under_way(receiver) + 1

    def give_back(self, receiver: str, answered: bool) -> None:
        """An attempt is over, with an answer or without."""
        self._used -= 1
        if left := self._under_way[receiver] - 1:
            self._under_way[receiver] = left
        else:
            del self._under_way[receiver]
        name = receiver.removesuffix(REPLAY_LANE)
        answered_before = name in self._answering
        self._on_trial -= not answered_before
        if answered_before:
            self._doubt(name)
        if answered:
            self._trust(name)

    def _trust(self, name: str) -> None:
        self._answering[name] = None
        self._on_trial -= self._of_both_lanes(name)
        if len(self._answering) > _REMEMBERED:
            self._doubt(next(iter(self._answering)))

    def _doubt(self, name: str) -> None:
        del self._answering[name]
        self._on_trial += self._of_both_lanes(name)

    def _of_both_lanes(self, name: str) -> int:
        return self.under_way(name) + self.under_way(name + REPLAY_LANE)

    def copy(self) -> Slots:
        """A snapshot to plan with, elsewhere."""
        twin = Slots(self._total, self._per_receiver)
        twin._used, twin._on_trial = self._used, self._on_trial
        twin._under_way = self._under_way.copy()
        twin._answering = self._answering.copy()
        return twin

    def room(self, receiver: str) -> int:
        """How many attempts towards a receiver may be added now."""
        own = self.under_way(receiver)
        used, total, share = self._used, self._total, self._per_receiver
        free, free_for_more = total - used, total * 3 // 4 - used
        name = receiver.removesuffix(REPLAY_LANE)
        other = name if receiver != name else name + REPLAY_LANE
        left = share - own - self.under_way(other)
        answers = name in self._answering
        if receiver != name or not answers:
            share = max(1, share // 4)
        if not answers:
            half = max(1, total // 2)
            free = min(free, half - self._on_trial)
            free_for_more = min(free_for_more, half * 3 // 4 - self._on_trial)
        if not own and free > 0:
            return min(left, max(1, min(share, free_for_more)))
        return max(0, min(share - own, free_for_more, left))
