"""Calls: looked for, looked at, tried out. Placing one that rings is for the tests with a real Asterisk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import sqlite

from huibo.clock import Clock
from huibo.flow.settle import cdr_of
from huibo.flow.state import CallState, LegState, Plan
from huibo.model import Attempt, Call, CallResult, EndReason, LegRecord, Push
from huibo.office.calls import Progress, progress_of
from huibo.rating import Budget, Rate
from huibo.storage.accounts import hold
from huibo.storage.calls import add_call, save_step
from huibo.storage.search import Sought, query_of
from huibo.storage.tables import calls as call_rows
from huibo.storage.tables import metadata
from huibo.storage.tokens import Role
from tests.api.service import Service

Named = Callable[[str], str]
NOW = Clock().now_ms()
NEW = {"caller": "13800138000", "callee": "01088880000"}


def a_call(call_id: str, app_id: str, at: int = NOW, **more: Any) -> Call:
    given = {"caller": "+8613800138000", "callee": "+861088880000", "request_id": "r"} | more
    return Call(
        call_id=call_id,
        app_id=app_id,
        caller_display="02131264133",
        callee_display="02131264133",
        caller_trunk="one",
        callee_trunk="one",
        max_talk_s=600,
        accepted_at=at,
        **given,
    )


def finished(call: Call, talked: bool = True) -> CallState:
    """The state of a call that is over; the callee's first trunk did not take it."""
    at = call.accepted_at
    rate = Rate("", 5000)
    plan = Plan(30, 60, 60, 600, caller_route=("one",), callee_route=("two", "one"))
    caller = LegRecord(at + 10, at + 1000, at + 2000, at + 9000, EndReason.HUNG_UP)
    callee = LegRecord(at + 2100, at + 3000, at + 4000 if talked else None, at + 9001, EndReason.RELEASED)
    tried = (Attempt("two", at + 2050, EndReason.CARRIER_FAULT, 503),)
    return CallState(
        at,
        replace(plan, budget=Budget(rate, rate, hold=20_000)),
        caller=LegState(caller, dialled_at=at + 5),
        callee=LegState(callee, dialled_at=at + 2060, tried=tried),
        ended_at=at + 9002,
    )


def store(service: Service, call: Call, state: CallState | None, owed: tuple[Push, ...] = ()) -> None:
    def work(connection: Connection) -> None:
        add_call(connection, call, CallState(call.accepted_at, Plan(30, 60, 60, 600)))
        if state is not None:
            budget = state.plan.budget
            if budget is not None and budget.hold:
                hold(connection, call.app_id, call.call_id, budget.hold, call.accepted_at)
            cdr = cdr_of(call.call_id, state) if state.over else None
            save_step(connection, call, state, owed, cdr, call.accepted_at)

    service.transact(work)


async def ids(service: Service, **query: Any) -> list[str]:
    return [call["call_id"] for call in await service.every("/calls", 2, **query)]


async def test_calls_are_found_by_what_is_known_of_them(service: Service, named: Named) -> None:
    app_id = named("app")
    one, two, three = (named(f"{app_id}-call") for _ in range(3))
    talked = a_call(one, app_id, NOW - 3000, biz_id="b1", order_id="o 1")
    store(service, talked, finished(talked))
    silent = a_call(two, app_id, NOW - 2000, caller="+8613800138001", biz_id="b1")
    store(service, silent, finished(silent, talked=False))
    live = a_call(three, app_id, NOW - 1000, callee="+8613900139777", order_id=f"o{app_id}")
    store(service, live, None)

    for query, found in [
        ({}, [three, two, one]),
        ({"biz_id": "b1"}, [two, one]),
        ({"order_id": "o 1"}, [one]),
        ({"order_id": f"o{app_id}"}, [three]),
        ({"call_id": two}, [two]),
        ({"caller": "13800138001"}, [two]),
        ({"caller": "+8613800138001"}, [two]),
        ({"callee": "008613900139777"}, [three]),
        ({"callee": "01088880000"}, [two, one]),
        ({"result": "talked"}, [one]),
        ({"result": "callee_no_answer"}, [two]),
        ({"live": "true"}, [three]),
        ({"live": "false"}, [two, one]),
        ({"since": NOW - 2000}, [three, two]),
        ({"until": NOW - 2000}, [one]),
        ({"since": NOW - 2000, "until": NOW - 1000}, [two]),
        ({"caller": "13800138001", "result": "talked"}, []),
    ]:
        assert await ids(service, app_id=app_id, **query) == found, query
    assert await ids(service, app_id="nobody") == []
    assert one in await ids(service)

    shown = (await service.get("/calls", call_id=one)).ok()["items"][0]
    assert shown["caller"] == "+8613800138000"
    assert (shown["progress"], shown["result"], shown["charge"]) == ("over", "talked", 10_000)
    shown = (await service.get("/calls", call_id=three)).ok()["items"][0]
    assert (shown["progress"], shown["result"], shown["charge"]) == ("accepted", None, None)


@pytest.mark.parametrize(
    "query",
    [
        {"caller": "123"},
        {"callee": "+4930123456"},
        {"result": "good"},
        {"live": "perhaps"},
        {"since": -1},
        {"until": 2**60},
        {"since": "yesterday"},
        {"appid": "x"},
        {"cursor": "WzEsMl0"},
        {"biz_id": "x" * 65},
    ],
)
async def test_what_calls_cannot_be_looked_for_by(service: Service, query: dict[str, Any]) -> None:
    refused = await service.get("/calls", **query)
    refused.fails(422)
    assert refused.body["errors"][0]["field"] == next(iter(query))


async def test_pages_of_calls_are_stable_while_calls_come_in(service: Service, named: Named) -> None:
    app_id = named("app")
    calls = [f"{app_id}-{n}" for n in range(6)]  # two of each moment
    for n, call_id in enumerate(calls):
        store(service, a_call(call_id, app_id, NOW - 60_000 + n // 2), None)
    seen, cursor = [], {}
    for n in range(3):
        page = (await service.get("/calls", app_id=app_id, limit=2, **cursor)).ok()
        seen += [call["call_id"] for call in page["items"]]
        store(service, a_call(f"{app_id}-new{n}", app_id, NOW), None)
        cursor = {"cursor": page["next"]}
    assert seen == calls[::-1]
    assert page["next"] is None


@pytest.mark.parametrize(
    ("sought", "index"),
    [
        (Sought(), "ix_calls_accepted"),
        (Sought(app_id="a"), "ix_calls_app_accepted"),
        (Sought(caller="+86"), "ix_calls_caller_accepted"),
        (Sought(callee="+86"), "ix_calls_callee_accepted"),
        (Sought(biz_id="b"), "ix_calls_biz_id"),
        (Sought(order_id="o"), "ix_calls_order_id"),
        (Sought(live=True), "ix_calls_unfinished"),
        (Sought(call_id="c"), "sqlite_autoindex_calls_1"),
        (Sought(result=CallResult.TALKED, start=1, end=2), "ix_calls_accepted"),
    ],
)
def test_every_search_goes_through_an_index(service: Service, sought: Sought, index: str) -> None:
    query = query_of(sought).order_by(call_rows.c.accepted_at.desc(), call_rows.c.call_id.desc())
    sql = query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})

    def plan(connection: Connection) -> list[str]:
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")]

    steps = service.transact(plan)
    assert any(f"INDEX {index}" in step for step in steps), steps


async def test_one_call_with_all_that_happened(service: Service, named: Named) -> None:
    app_id = named("app")
    call = a_call(f"{app_id}-call", app_id, cdr_url="https://user:geheim@example.com/cdr")
    push = Push(call.call_id, app_id, "cdr", 9, "https://user:geheim@example.com/cdr", b"{}")
    store(service, call, finished(call), (push,))
    answer = await service.get(f"/calls/{call.call_id}")
    whole = answer.ok()
    at = call.accepted_at
    told = [(m["at"] - at, m["leg"], m["event"], m["trunk"], m["reason"]) for m in whole["timeline"]]
    assert told == [
        (0, None, "accepted", None, None),
        (5, "caller", "dialled", "one", None),
        (10, "caller", "invited", None, None),
        (1000, "caller", "ringing", None, None),
        (2000, "caller", "answered", None, None),
        (2050, "callee", "failed", "two", "carrier_fault"),
        (2060, "callee", "dialled", "one", None),
        (2100, "callee", "invited", None, None),
        (3000, "callee", "ringing", None, None),
        (4000, "callee", "answered", None, None),
        (9000, "caller", "ended", None, "hung_up"),
        (9001, "callee", "ended", None, "released"),
        (9002, None, "over", None, None),
    ]
    assert (whole["hold"], whole["charge"], whole["talk_s"]) == (20_000, 10_000, 6)
    assert whole["callee_route"] == ["two", "one"]
    assert [(push["kind"], push["seq"]) for push in whole["pushes"]] == [("cdr", 9)]
    assert whole["recording"] is None
    assert "geheim" not in answer.text
    (await service.get("/calls/nobody")).fails(404, "no call nobody")


def test_how_far_a_call_is() -> None:
    state = finished(a_call("x", "y"))
    live = replace(state, ended_at=None)
    caller = replace(live.caller, record=replace(live.caller.record, ended_at=None, reason=None))
    callee = replace(live.callee, record=replace(live.callee.record, ended_at=None, reason=None))
    unanswered = replace(caller, record=replace(caller.record, answered_at=None))
    talking = replace(live, caller=caller, callee=callee)
    ringing = replace(callee, record=replace(callee.record, answered_at=None))
    for progress, one in (
        (Progress.OVER, state),
        (Progress.ENDING, live),
        (Progress.TALKING, talking),
        (Progress.CALLEE, replace(talking, callee=ringing)),
        (Progress.MENU, replace(talking, callee=LegState())),
        (Progress.CALLER, replace(talking, caller=unanswered, callee=LegState())),
        (Progress.ACCEPTED, replace(live, caller=LegState(), callee=LegState())),
    ):
        assert progress_of(one) is progress


async def test_an_app_with_calls_under_way_stays(service: Service, named: Named) -> None:
    app_id = named("app")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    call = a_call(f"{app_id}-call", app_id)
    store(service, call, None)
    (await service.delete(f"/apps/{app_id}")).fails(409, "1 calls under way", "block it")

    def end(connection: Connection) -> None:
        state = finished(call)
        hold(connection, app_id, call.call_id, 20_000, NOW)
        save_step(connection, call, state, (), cdr_of(call.call_id, state), NOW)

    service.transact(end)
    (await service.delete(f"/apps/{app_id}")).ok(204)


async def test_a_call_that_is_over_is_not_cancelled(service: Service, named: Named) -> None:
    call = a_call(named("call"), "ghost")
    store(service, call, finished(call))
    (await service.post(f"/calls/{call.call_id}:cancel", {})).fails(409, "is over")
    (await service.post("/calls/nobody:cancel", {})).fails(404)
    (await service.post(f"/calls/{call.call_id}:cancel", {"unless": "later"})).fails(422, "never")
    assert await service.noted("call", call.call_id) == []


def count_rows(service: Service) -> dict[str, int]:
    def work(connection: Connection) -> dict[str, int]:
        names = metadata.tables.items()
        return {name: connection.scalars(select(func.count()).select_from(t)).one() for name, t in names}

    return service.transact(work)


async def test_a_call_is_tried_out_and_nothing_is_written(service: Service, named: Named) -> None:
    app_id, plan, number, trunk = named("app"), named("plan"), named("0213126"), named("trunk")
    viewer = service.acting_as(service.make_token(Role.VIEWER))
    new = NEW | {"app_id": app_id}

    async def rule(**more: Any) -> tuple[str, str]:
        checked = (await viewer.post("/calls:check", new | more)).ok()
        assert checked["would_go"] is False
        assert checked["caller_route"] == checked["callee_route"] == []
        return checked["refused"]["rule"], checked["refused"]["code"]

    assert await rule() == ("app", "-401")
    (await service.put("/rates", {"plan": plan, "per_minute": 6000, "prefix": "86"})).ok()
    (await service.put("/rates", {"plan": plan, "per_minute": 2000, "prefix": "010"})).ok()
    app = {"app_id": app_id, "url_id": "other", "allowed_ips": ["192.0.2.1"]}
    (await service.post("/apps", app | {"rate_plan": plan, "prepaid": True, "state": "blocked"})).ok(201)
    assert await rule() == ("state", "-423")
    (await service.patch(f"/apps/{app_id}", {"state": "active"})).ok()
    assert await rule() == ("display_numbers", "-102")
    (await service.post("/numbers", {"number": number, "apps": [app_id]})).ok(201)
    assert await rule(caller_display="02099999999") == ("display_numbers", "-102")
    assert await rule() == ("engine", "-501")
    (await service.put("/blacklist", {"number": NEW["callee"], "app": app_id})).ok()
    before = count_rows(service)
    assert await rule() == ("blacklist", "-110")
    assert count_rows(service) == before

    (await service.post("/trunks", {"name": trunk, "host": "127.0.0.1", "state": "off"})).ok(201)
    (await service.post(f"/accounts/{app_id}/credits", {"amount": 13_000})).ok(201)
    checked = (await viewer.post("/calls:check", new)).ok()
    assert (checked["per_minute"], checked["available"]) == (8000, 13_000)
    assert (checked["caller_price"]["prefix"], checked["callee_price"]["prefix"]) == ("86", "8610")
    assert checked["hold"] == 13_000
    assert 0 < checked["affordable_s"] <= 120


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("caller", "01088880000", "caller: not a mobile number"),
        ("caller", "12345", "Chinese"),
        ("caller", None, "caller"),
        ("callee", "13800138000", "the same number"),
        ("callee", "+1 202 555 0100", "Chinese"),
        ("caller_display", "abc", "caller_display"),
        ("max_talk_s", 0, "max_talk_s"),
        ("max_talk_s", 86_401, "the most that is configured"),
        ("biz_id", "a b", "biz_id"),
        ("order_id", "x" * 65, "order_id"),
        ("request_id", "x" * 49, "request_id"),
        ("status", [{"leg": "both", "moment": "ringing"}], "caller"),
        ("status_url", "javascript:alert(1)", "http"),
        ("menu", {"keys": {"1": "connect"}}, "prompt: required, or notice"),
        ("menu", {"prompt": "x", "keys": {}}, "keys"),
        ("menu", {"prompt": "x", "keys": {"12": "connect"}}, "keys"),
        ("menu", {"prompt": "x", "keys": {"1": "dial"}}, "connect"),
        ("menu", {"prompt": "x" * 501, "keys": {"1": "connect"}}, "prompt"),
        ("url_id", "demo", "Extra inputs"),
        ("by_operator", True, "Extra inputs"),
    ],
)
async def test_what_a_call_cannot_be(service: Service, field: str, value: Any, words: str) -> None:
    new = NEW | {"app_id": "nobody", field: value}
    for path in ("/calls", "/calls:check"):
        (await service.post(path, new)).fails(422, words)


async def test_a_call_that_is_refused_writes_nothing(service: Service, named: Named) -> None:
    app_id, number = named("app"), named("0213126")
    refused = await service.post("/calls", NEW | {"app_id": app_id})
    refused.fails(422, "appId invalid")
    assert (refused.body["rule"], refused.body["code"]) == ("app", "-401")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    (await service.post("/numbers", {"number": number, "apps": [app_id]})).ok(201)
    (await service.put("/blacklist", {"number": NEW["callee"], "app": app_id})).ok()
    before = count_rows(service)
    listed = await service.post("/calls", NEW | {"app_id": app_id})
    listed.fails(409)
    assert (listed.body["rule"], listed.body["code"]) == ("blacklist", "-110")
    (await service.delete("/blacklist", number=NEW["callee"], app=app_id)).ok(204)
    no_engine = await service.post("/calls", NEW | {"app_id": app_id})
    no_engine.fails(503)
    assert no_engine.body["rule"] == "engine"
    after = count_rows(service)
    assert after == before | {"blacklist": before["blacklist"] - 1, "audit": before["audit"] + 1}
    for key in ("", "x" * 201, "ä"):
        headers = {"Idempotency-Key": key}
        (await service.ask("POST", "/calls", NEW | {"app_id": app_id}, headers=headers)).fails(422)


async def test_pushes_are_listed_shown_and_replayed(service: Service, named: Named) -> None:
    app_id = named("app")
    call = a_call(f"{app_id}-call", app_id)
    url = "http://127.0.0.1:9/none"  # refused: pushes to this machine are not allowed here
    owed = tuple(Push(call.call_id, app_id, "cdr", n, url, b'{"n":%d}' % n) for n in (8, 9))
    store(service, call, finished(call), owed)
    listed = await service.every("/pushes", 1, call_id=call.call_id)
    assert [push["seq"] for push in listed] == [9, 8]
    shown = (await service.get(f"/pushes/{listed[0]['id']}")).ok()
    assert shown["body"] == '{"n":9}'
    replayed = (await service.post(f"/pushes/{shown['id']}:replay")).ok(202)
    assert replayed["state"] == "pending"
    wanted = {"call_id": call.call_id, "state": "pending"}
    assert (await service.post("/pushes:replay", wanted)).ok(202) == {"count": 2, "next": None}
    assert (await service.post("/pushes:replay", {"app_id": app_id, "kind": "key"})).ok(202)["count"] == 0
    (await service.post("/pushes:replay", {"since": 5, "until": 5})).fails(422, "since")
    (await service.post("/pushes:replay", {"call": "x"})).fails(422, "Extra")
    (await service.get("/pushes/987654321")).fails(404)
    (await service.post("/pushes/987654321:replay")).fails(404)
    (await service.get("/pushes/x")).fails(422, "push_id")
    assert [one["action"] for one in await service.noted("push", str(shown["id"]))] == ["replay"]


async def test_health_of_the_cell_and_the_trunks(service: Service, named: Named) -> None:
    trunk = named("trunk")
    (await service.post("/trunks", {"name": trunk, "host": "127.0.0.1", "channels": 7})).ok(201)
    store(service, replace(a_call(named("call"), "ghost"), caller_trunk=trunk), None)
    health = (await service.get("/health")).ok()
    assert health["ok"] is False
    (cell,) = health["cells"]
    assert (cell["engine_ready"], cell["live_calls"], cell["base_url"]) == (False, 0, service.base_url)
    assert cell["draining"] is False
    own = next(one for one in health["trunks"] if one["name"] == trunk)
    assert (own["channels"], own["channels_in_use"], own["lock"]) == (7, 1, None)
    assert own == (await service.get(f"/trunks/{trunk}/health")).ok()
