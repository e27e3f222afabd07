"""How many attempts may be under way, and that nobody can use up the room of the others."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from huibo.push.slots import Slots
from huibo.storage.outbox import REPLAY_LANE

TOTAL, EACH = 256, 16


class Crowd:
    """Slots, and receivers that hold on to all they can get."""

    def __init__(self, total: int = TOTAL, each: int = EACH) -> None:
        self.slots = Slots(total, each)

    def fill(self, receiver: str) -> list[str]:
        taken = []
        while self.slots.room(receiver):
            taken.append(receiver)
            self.slots.take(receiver)
        return taken

    def prove(self, receiver: str) -> None:
        """Let a receiver answer once."""
        self.slots.take(receiver)
        self.slots.give_back(receiver, answered=True)


def test_a_receiver_starts_small_and_gets_all_once_it_answers() -> None:
    crowd = Crowd()
    assert crowd.slots.room("a") == EACH // 4
    crowd.prove("a")
    assert crowd.slots.room("a") == EACH
    assert len(crowd.fill("a")) == EACH
    assert crowd.slots.room("a") == 0


def test_a_receiver_that_lets_an_attempt_hang_starts_small_again() -> None:
    crowd = Crowd()
    crowd.prove("a")
    for each in crowd.fill("a"):
        crowd.slots.give_back(each, answered=False)
    assert crowd.slots.room("a") == EACH // 4


def test_dead_receivers_however_many_leave_half_to_those_that_answer() -> None:
    crowd = Crowd()
    crowd.prove("good")
    for number in range(1000):
        crowd.fill(f"dead{number}")
    assert len(crowd.slots) == TOTAL // 2
    assert crowd.slots.room("good") == EACH
    assert crowd.slots.room("new") == 0


def test_dead_receivers_leave_room_to_new_ones() -> None:
    crowd = Crowd()
    for number in range(TOTAL // EACH):  # as many as would fill everything, had they their whole share
        crowd.fill(f"dead{number}")
    assert crowd.slots.room("new") == EACH // 4


def test_receivers_that_answered_and_now_hang_leave_room_to_others() -> None:
    crowd = Crowd()
    for number in range(TOTAL // EACH):
        crowd.prove(f"r{number}")
        crowd.fill(f"r{number}")
    crowd.prove("other")
    assert crowd.slots.room("other") >= 1
    assert crowd.slots.room("new") >= 1


def test_room_is_given_back() -> None:
    crowd = Crowd()
    taken = [each for number in range(1000) for each in crowd.fill(f"dead{number}")]
    for each in taken:
        crowd.slots.give_back(each, answered=False)
    assert len(crowd.slots) == 0
    assert crowd.slots.room("new") == EACH // 4


def test_a_copy_is_independent() -> None:
    crowd = Crowd()
    crowd.prove("a")
    twin = crowd.slots.copy()
    twin.take("a")
    assert (twin.room("a"), crowd.slots.room("a")) == (EACH - 1, EACH)


def test_what_is_sent_again_has_a_quarter_and_leaves_the_rest() -> None:
    crowd = Crowd()
    crowd.prove("a")
    assert len(crowd.fill("a" + REPLAY_LANE)) == EACH // 4
    assert len(crowd.fill("a")) == EACH - EACH // 4, "both together have what one receiver may have"


def test_what_is_new_leaves_nothing_to_wait_for_ever() -> None:
    crowd = Crowd()
    crowd.prove("a")
    taken = crowd.fill("a")
    assert crowd.slots.room("a" + REPLAY_LANE) == 0
    crowd.slots.give_back(taken[0], answered=True)
    assert crowd.slots.room("a" + REPLAY_LANE) == 1


def test_an_answer_in_one_lane_speaks_for_the_receiver() -> None:
    crowd = Crowd()
    crowd.prove("a" + REPLAY_LANE)
    assert crowd.slots.room("a") == EACH
    for each in crowd.fill("a" + REPLAY_LANE):
        crowd.slots.give_back(each, answered=False)
    assert crowd.slots.room("a") == EACH // 4


@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", REPLAY_LANE]), st.booleans()), max_size=200),
)
def test_the_bounds_hold_and_nobody_waits_for_nothing(
    total: int, each: int, steps: list[tuple[int, str, bool]]
) -> None:
    """Any order of takings and givings back."""
    slots = Slots(total, each)
    held: list[str] = []
    for who, lane, answered in steps:
        receiver = f"r{who}{lane}"
        if slots.room(receiver):
            held.append(receiver)
            slots.take(receiver)
        elif held:
            slots.give_back(held.pop(0), answered)
        assert len(slots) == len(held) <= total
        names = [f"r{i}" for i in range(10)]
        assert all(slots.under_way(n) + slots.under_way(n + REPLAY_LANE) <= each for n in names)
        if not held:
            assert all(slots.room(n) >= 1 and slots.room(n + REPLAY_LANE) >= 1 for n in names)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.sampled_from(["take", "answer", "hang"])))
)
def test_those_on_trial_are_counted_right_whatever_happens(steps: list[tuple[str, bool, str]]) -> None:
    slots, under_way, answering = Slots(TOTAL, EACH), Counter[str](), set[str]()
    for name, replayed, what in steps:
        receiver = name + REPLAY_LANE if replayed else name
        if what == "take":
            slots.take(receiver)
            under_way[receiver] += 1
        elif under_way[receiver]:
            slots.give_back(receiver, answered=what == "answer")
            under_way[receiver] -= 1
            (answering.add if what == "answer" else answering.discard)(name)
    on_trial = sum(count for each, count in under_way.items() if each[0] not in answering)
    half, taken = TOTAL // 2, 0
    while slots.room(f"new-{taken}"):
        slots.take(f"new-{taken}")
        taken += 1
    assert taken == max(0, min(half - on_trial, TOTAL - under_way.total()))
