"""Which push of a call may leave when, and which receiver has its turn."""

from __future__ import annotations

from huibo.push.chains import Chain, Chains
from huibo.push.queue import Queue
from huibo.push.slots import Slots
from huibo.storage.outbox import Handed, OwedPush


def push(number: int, kind: str = "status", call: str = "c1", receiver: str = "a") -> OwedPush:
    return OwedPush(number, call, "app", kind, number, f"{receiver}/in", receiver, b"{}", 0)


def handed(*pushes: OwedPush, behind: bool = False, secret: str = "") -> Handed:
    return Handed(pushes, behind, (secret,) if secret else ())


def begun(chains: Chains, chain: Chain | None) -> list[int]:
    assert chain is not None
    found = []
    while (one := chains.next_of(chain)) is not None:
        found.append(one.id)
    return found


def test_a_status_push_is_followed_once_it_is_delivered() -> None:
    chains = Chains()
    pushes = [push(1), push(2), push(3, "key"), push(4, "cdr"), push(5)]
    assert begun(chains, chains.take(handed(*pushes))) == [1]
    assert begun(chains, chains.delivered(pushes[0])) == [2]
    assert begun(chains, chains.delivered(pushes[1])) == [3, 4, 5], "all others block nothing"
    assert chains.delivered(pushes[3]) is None
    assert begun(chains, chains.delivered(pushes[4])) == []


def test_what_comes_later_joins_until_all_is_stored() -> None:
    chains = Chains()
    first, second, third = push(1), push(2), push(3)
    assert begun(chains, chains.take(handed(first, secret="old"))) == [1]
    chain = chains.take(handed(second, behind=True, secret="new"))
    assert begun(chains, chain) == [], "the first is under way"
    assert chain is not None
    assert chain.secrets == ("new",)
    assert begun(chains, chains.delivered(first)) == [2]
    chains.delivered(second)
    chains.stored(first)
    assert begun(chains, chains.take(handed(third, behind=True))) == [3], "the second is not stored yet"
    chains.delivered(third)
    chains.stored(second)
    chains.stored(third)
    assert len(chains) == 0


def test_what_only_the_outbox_knows_is_not_overtaken() -> None:
    chains = Chains()
    assert chains.take(handed(push(2), behind=True)) is None
    assert chains.take(handed(push(1, call="c2"))) is not None


def test_a_failure_leaves_the_rest_to_the_outbox() -> None:
    chains = Chains()
    pushes = [push(1), push(2), push(3, "cdr")]
    begun(chains, chains.take(handed(*pushes)))
    assert chains.failed(push(9)) == [], "one of the call that was not in it"
    assert chains.failed(pushes[0]) == pushes[1:]
    assert chains.take(handed(push(4), behind=True)) is None
    chains.stored(pushes[0])
    assert len(chains) == 0


def test_a_call_without_status_pushes_is_forgotten_with_the_first_that_is_stored() -> None:
    chains = Chains()
    assert begun(chains, chains.take(handed(push(1, "cdr"), push(2, "recording")))) == [1, 2]
    chains.stored(push(1, "cdr"))
    assert len(chains) == 0
    assert begun(chains, chains.take(handed(push(3)))) == [3]


def test_receivers_take_turns_and_each_has_its_order() -> None:
    slots = Slots(total=100, per_receiver=100)
    queue = Queue(slots)
    for number, receiver in enumerate("aaabbc"):
        queue.put(push(number, receiver=receiver), ())
    order = []
    while (ready := queue.next()) is not None:
        order.append(ready.push.id)
    assert order == [0, 3, 5, 1, 4, 2]
    assert len(queue) == 0


def test_who_has_no_slot_holds_up_nobody() -> None:
    slots = Slots(total=100, per_receiver=4)
    queue = Queue(slots)
    slots.take("a")  # on trial: one is all
    for receiver in "aab":
        queue.put(push(1, receiver=receiver), ("secret",))
    ready = queue.next()
    assert ready is not None
    assert (ready.push.receiver, ready.secrets) == ("b", ("secret",))
    slots.take("b")
    assert queue.next() is None
    slots.give_back("a", answered=False)
    assert queue.next() is not None


def test_no_more_wait_than_there_are_places() -> None:
    queue = Queue(Slots(total=100, per_receiver=4))
    put = 0
    while queue.has_place("a"):
        queue.put(push(put), ())
        put += 1
    assert put == 64
    assert queue.has_place("b")
    for number in range(63):
        for _ in range(64):
            queue.put(push(1, receiver=f"r{number}"), ())
    assert not queue.has_place("b"), "4096 in all"
