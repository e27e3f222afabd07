"""I7: the same Idempotency-Key gives the same callId, and one call."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.invariants.facts import Case, Facts, Violation


def check(facts: Facts) -> Iterator[Violation]:
    by_request: dict[int, list[Case]] = {}
    owners: dict[str, str] = {}
    for case in facts.cases:
        if case.asked is not None:
            by_request.setdefault(id(case.asked), []).append(case)
    for cases in by_request.values():
        case, asked = cases[0], cases[0].asked
        assert asked is not None
        ids = {answer.call_id for answer in asked.answers if answer.error_code == "0"}
        if len(ids) > 1:
            yield case.broken("I7", f"one key got {len(ids)} different callIds")
        stored = [one.call.call_id for one in cases if one.call is not None]
        if len(stored) > 1:
            yield case.broken("I7", f"one key made {len(stored)} calls")
        remembered = facts.stored.keys.get((case.app_id, asked.key))
        if stored and remembered not in stored:
            yield case.broken("I7", f"its key is remembered for {remembered or 'nothing'}")
        for call_id in ids & facts.calls.keys():
            if call_id is not None and owners.setdefault(call_id, asked.key) != asked.key:
                yield case.broken("I7", "two keys got one callId")
            elif call_id not in stored and len(ids) == 1:
                yield case.broken("I7", "its answer names a call that another request made")
