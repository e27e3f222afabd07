"""I5: every push that was asked for is delivered or stands in the dead letter, and statuses come in order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from huibo.model import CallResult, Cdr, Leg
from huibo.sandbox.journal import PhoneMoment
from tests.faults.evidence import Arrived
from tests.faults.invariants.excuses import RECEIVERS
from tests.faults.invariants.facts import Case, Facts, Violation
from tests.faults.invariants.stored import StoredPush
from tests.faults.invariants.words import ENDS, ORDER, cdr_fields, statuses, wanted

_TAKEN = ("200", "drip")  # a reply that drips has begun with a 200: that counts
_KEPT = ("ready", "purged")
_ECHOED = ("appId", "requestId", "src", "dst")


def check(facts: Facts) -> Iterator[Violation]:
    known = {push.webhook_id: push for push in facts.stored.pushes}
    arrived: dict[str, list[Arrived]] = {}
    for one in sorted(facts.evidence.arrived, key=lambda one: one.at):
        arrived.setdefault(one.webhook_id, []).append(one)
    for webhook_id in arrived.keys() - known.keys():
        call_id = arrived[webhook_id][0].body.get("callId", "")
        yield Violation("I5", call_id, f"a push arrived as {webhook_id}, which nobody owed")
    for push in known.values():
        if (case := facts.calls.get(push.call_id)) is not None:
            yield from _fate(case, push, arrived.get(push.webhook_id, []))
    for case in facts.calls.values():
        if case.asked is not None and case.cdr is not None:
            yield from _owed(facts, case, case.cdr)
        yield from _order(case, arrived)


def _fate(case: Case, push: StoredPush, arrived: list[Arrived]) -> Iterator[Violation]:
    what = f"{push.kind} push {push.seq}"
    if any(one.body != push.body for one in arrived):
        yield case.broken("I5", f"{what} arrived with another body than it was owed with")
    posted = case.asked.body if case.asked is not None else {}
    if any(name in push.body and push.body[name] != posted.get(name, "") for name in _ECHOED if posted):
        yield case.broken("I5", f"{what} is about another request")
    if any(one.kind != push.kind for one in arrived):
        yield case.broken("I5", f"{what} arrived where it was not to go")
    match push.state:
        case "pending":
            yield case.broken("I5", f"{what} is still pending after {push.attempts} attempts")
        case "delivered":
            if not any(one.answered in _TAKEN for one in arrived):
                yield case.broken("I5", f"{what} is marked delivered, no receiver took it")
        case "dead":
            yield from _dead(case, push, arrived)
        case other:
            yield case.broken("I5", f"{what} is {other}")


def _dead(case: Case, push: StoredPush, arrived: list[Arrived]) -> Iterator[Violation]:
    """Excused: a receiver that refused it, or was under a fault while the push was due."""
    refused = any(one.answered not in _TAKEN for one in arrived)
    until = case.over_at if not case.arrived else max(one.at for one in case.arrived)
    if not refused and not case.hit(RECEIVERS, until=until):
        yield case.broken("I5", f"{push.kind} push {push.seq} was given up, its receiver was well")


def _owed(facts: Facts, case: Case, cdr: Cdr) -> Iterator[Violation]:
    assert case.asked is not None
    body, app = case.asked.body, facts.stored.apps.get(case.app_id)
    yield from _statuses(case, cdr, body.get("statusUrl") or (app.status_url if app else None))
    of_kind = {kind: [one for one in case.pushes if one.kind == kind] for kind in ("cdr", "recording", "key")}
    cdr_url = body.get("hangupUrl") or (app.cdr_url if app else None)
    if len(of_kind["cdr"]) != (1 if cdr_url else 0):
        yield case.broken("I5", f"{len(of_kind['cdr'])} CDR pushes are owed")
    expected = cdr_fields(cdr)
    for push in of_kind["cdr"]:
        if {name: push.body.get(name) for name in expected} != expected:
            yield case.broken("I5", "the CDR push does not say what the CDR says")
    record_url = body.get("recordUrl") or (app.record_url if app else None)
    yield from _recordings(facts, case, cdr, of_kind["recording"], record_url)
    yield from _keys(case, cdr, of_kind["key"])


def _statuses(case: Case, cdr: Cdr, url: str | None) -> Iterator[Violation]:
    assert case.asked is not None
    mask = int(case.asked.body.get("statusFlag") or 0) if url else 0
    due = {named: at for named, at in statuses(cdr).items() if wanted(mask, *named)}
    told = [(push.body["userFlag"], push.body["callStatus"]) for push in case.pushes if push.kind == "status"]
    for named in due.keys() - set(told):
        yield case.broken("I5", f"no status push {' '.join(named)} is owed")
    for named, times in Counter(told).items():
        if named not in due:
            yield case.broken("I5", f"a status push {' '.join(named)} was not asked for, or did not happen")
        elif times > 1:
            yield case.broken("I5", f"{' '.join(named)} is pushed {times} times")
    for push in case.pushes:
        if push.kind == "status":
            named = (push.body["userFlag"], push.body["callStatus"])
            if named in due and push.body["timeStamp"] != due[named]:
                yield case.broken("I5", f"{' '.join(named)} is pushed with another time than the CDR's")


def _recordings(
    facts: Facts, case: Case, cdr: Cdr, owed: list[StoredPush], url: str | None
) -> Iterator[Violation]:
    assert case.asked is not None
    kept = facts.stored.recordings.get(case.name)
    links = [push.body["recordUrl"] for push in owed]
    if not url:
        expected = []
    elif kept is not None and kept["state"] in _KEPT:
        expected = [True]
    elif case.asked.body.get("ringRecognition") == "1" and cdr.result is not CallResult.TALKED:
        expected = [False]
    else:
        expected = []
    if [bool(link) for link in links] != expected:
        yield case.broken("I5", f"{len(expected)} recording pushes are due, {len(links)} are owed: {links}")


def _keys(case: Case, cdr: Cdr, owed: list[StoredPush]) -> Iterator[Violation]:
    """As far as phones tell: they press all the time, and the menu takes what comes at its moment."""
    assert case.asked is not None
    menu = json.loads(case.asked.body.get("preCallerHandle") or "{}")
    pressed = Counter(
        event.key or ""
        for ring in case.rings[Leg.CALLER]
        for event in ring.events
        if event.event is PhoneMoment.PRESSED
    )
    told = Counter(push.body["key"] for push in owed)
    if owed and not menu.get("keyPressUrl"):
        yield case.broken("I5", "keys are pushed, nobody asked for them")
    elif told - pressed:
        yield case.broken(
            "I5", f"keys are pushed that were not pressed: {''.join((told - pressed).elements())}"
        )
    connecting = {one["key"] for one in menu.get("keyList", []) if one["operate"] == "1"}
    if menu.get("keyPressUrl") and cdr.callee.invited_at is not None and not connecting & told.keys():
        yield case.broken("I5", "the key that had the callee dialled is not pushed")


def _order(case: Case, arrived: dict[str, list[Arrived]]) -> Iterator[Violation]:
    """Nothing of a call leaves for the first time before the statuses ahead of it have."""
    latest, ahead = 0, ""
    steps: dict[str, int] = {}
    for push in sorted(case.pushes, key=lambda push: push.seq):
        first = arrived.get(push.webhook_id, [])
        if first and first[0].at < latest:
            yield case.broken("I5", f"{push.kind} push {push.seq} arrived before {ahead}")
        if push.kind != "status":
            continue
        if first:
            latest, ahead = max(latest, first[0].at), f"status push {push.seq}"
        flag, word = push.body["userFlag"], push.body["callStatus"]
        step = len(ENDS) if word in ENDS else ORDER.index(word)
        if step <= steps.get(flag, -1):
            yield case.broken("I5", f"{flag} {word} is told after what comes behind it")
        steps[flag] = step
