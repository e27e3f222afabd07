"""The pushes of calls that this process has had in hand since they were written: which may leave when.

Within a call a status push is followed once it is delivered, not once that is stored. Pure bookkeeping, of
this process alone; what it lets go of rests in the outbox, whose order is the same.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from huibo.storage.outbox import STATUS, Handed, OwedPush


@dataclass(slots=True, eq=False)
class Chain:
    """The pushes of a call, in their order."""

    secrets: tuple[str, ...] = ()  # what signs the next
    waiting: deque[OwedPush] = field(default_factory=deque)
    first: int | None = None  # the status push that the others wait for
    unstored: set[int] = field(default_factory=set)  # status pushes that are still pending in the outbox


class Chains:
    """One for each call all of whose pending status pushes are here; there is none of any other call."""

    def __init__(self) -> None:
        self._of_call: dict[str, Chain] = {}

    def __len__(self) -> int:
        return len(self._of_call)

    def of(self, call_id: str) -> Chain | None:
        return self._of_call.get(call_id)

    def take(self, handed: Handed) -> Chain | None:
        """Add what has just been written. None: there are pushes before these that only the outbox knows."""
        call_id = handed.pushes[0].call_id
        chain = self._of_call.get(call_id)
        if chain is None:
            if handed.behind:
                return None
            chain = self._of_call[call_id] = Chain()
        chain.secrets = handed.secrets
        chain.waiting += handed.pushes
        chain.unstored |= {push.id for push in handed.pushes if push.kind == STATUS}
        return chain

    def next_of(self, chain: Chain) -> OwedPush | None:
        """The next push, if it has to wait for nothing. It is to be attempted, or let go."""
        if chain.first is not None or not chain.waiting:
            return None
        push = chain.waiting.popleft()
        if push.kind == STATUS:
            chain.first = push.id
        return push

    def delivered(self, push: OwedPush) -> Chain | None:
        """A push is delivered; returns the chain that goes on now, if any."""
        chain = self._of_call.get(push.call_id)
        if chain is None or chain.first != push.id:
            return None
        chain.first = None
        return chain

    def failed(self, push: OwedPush) -> list[OwedPush]:
        """A push is not delivered; returns those that waited for it, which are the outbox's now."""
        chain = self._of_call.get(push.call_id)
        return self.let_go(push.call_id) if chain is not None and chain.first == push.id else []

    def let_go(self, call_id: str) -> list[OwedPush]:
        """Leave all that waits of this call to the outbox, and what comes."""
        chain = self._of_call.pop(call_id, None)
        return list(chain.waiting) if chain is not None else []

    def stored(self, push: OwedPush) -> None:
        """What became of a push is stored."""
        chain = self._of_call.get(push.call_id)
        if chain is not None:
            chain.unstored.discard(push.id)
            if not chain.unstored and not chain.waiting:
                del self._of_call[push.call_id]
