"""Rates, accounts and statements."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from huibo.clock import Clock
from huibo.storage.accounts import hold
from huibo.storage.tokens import Role
from tests.api.service import Service

Named = Callable[[str], str]


async def test_a_rate_is_put_replaced_and_removed(service: Service, named: Named) -> None:
    plan = named("plan")
    first = (await service.put("/rates", {"plan": plan, "prefix": "138", "per_minute": 5000})).ok()
    assert first == {
        "plan": plan,
        "prefix": "86138",
        "per_minute": 5000,
        "first_s": 60,
        "next_s": 60,
        "setup": 0,
        "note": "",
    }
    (await service.put("/rates", {"plan": plan, "prefix": "", "per_minute": 1})).ok()
    second = (await service.put("/rates", first | {"per_minute": 4000})).ok()
    assert [rate["prefix"] for rate in await service.every("/rates", 1, plan=plan)] == ["", "86138"]
    assert (await service.get("/rates", plan=plan)).ok()["items"][1] == second
    for rate in ({"per_minute": -1}, {"per_minute": 1, "prefix": "x"}, {"per_minute": 1, "plan": "a b"}, {}):
        (await service.put("/rates", rate)).fails(422)
    (await service.delete("/rates", plan=plan, prefix="138")).ok(204)
    (await service.delete("/rates", plan=plan, prefix="138")).fails(404)
    (await service.delete("/rates", plan=plan, prefix="")).ok(204)
    (await service.delete("/rates", plan=plan)).fails(422, "prefix")
    noted = await service.noted("rate", f"{plan}/86138")
    assert [change["action"] for change in noted] == ["add", "change", "remove"]
    assert (noted[1]["before"], noted[1]["after"]) == (first, second)


async def test_a_prepaid_app_pays_in_and_is_adjusted(service: Service, named: Named) -> None:
    app_id, plan = named("app"), named("plan")
    (await service.put("/rates", {"plan": plan, "per_minute": 5000})).ok()
    (await service.post("/apps", {"app_id": app_id, "rate_plan": plan, "prepaid": True})).ok(201)
    account = f"/accounts/{app_id}"
    empty = {"app_id": app_id, "balance": 0, "held": 0, "available": 0}
    assert (await service.get(account)).ok() == empty
    paid = (await service.post(f"{account}/credits", {"amount": 100_000, "reason": "bank"})).ok(201)
    assert paid == empty | {"balance": 100_000, "available": 100_000}
    adjusted = (await service.post(f"{account}/adjustments", {"amount": -1, "reason": "error"})).ok(201)
    assert adjusted["balance"] == 99_999
    for amount in (0, -1, "1.5", 10**14):
        (await service.post(f"{account}/credits", {"amount": amount})).fails(422, "amount")
    (await service.post(f"{account}/adjustments", {"amount": 0, "reason": "x"})).fails(422, "not 0")
    (await service.post(f"{account}/adjustments", {"amount": 5})).fails(422, "reason")
    (await service.post(f"{account}/adjustments", {"amount": -(10**6), "reason": "x"})).fails(422, "amount")

    ledger = await service.every(f"{account}/ledger", 1)
    assert [(entry["kind"], entry["amount"], entry["balance"]) for entry in ledger] == [
        ("adjustment", -1, 99_999),
        ("credit", 100_000, 100_000),
    ]
    assert ledger[0]["author"].startswith("a admin (")
    assert [change["action"] for change in await service.noted("account", app_id)] == ["credit", "adjust"]


async def test_a_statement_is_csv(service: Service, named: Named) -> None:
    app_id = named("app")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    (await service.post(f"/accounts/{app_id}/credits", {"amount": 150_000, "reason": "=1+1"})).ok(201)
    from datetime import datetime
    from zoneinfo import ZoneInfo

    month = f"{datetime.now(ZoneInfo('Asia/Shanghai')):%Y-%m}"
    answer = await service.get(f"/accounts/{app_id}/statement", month=month)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert month in answer.headers["content-disposition"]
    assert "1.50000" in answer.text
    assert "'=1+1" in answer.text
    for bad in ("2026", "2026-13", "x", ""):
        (await service.get(f"/accounts/{app_id}/statement", month=bad)).fails(422, "month")
    (await service.get(f"/accounts/{app_id}/statement")).fails(422, "month")


async def test_there_is_no_such_account(service: Service) -> None:
    (await service.get("/accounts/nobody")).fails(404, "no app nobody")
    (await service.get("/accounts/nobody/ledger")).fails(404)
    (await service.get("/accounts/nobody/statement", month="2026-11")).fails(404)
    (await service.post("/accounts/nobody/credits", {"amount": 1})).fails(404)
    (await service.post("/accounts/nobody/adjustments", {"amount": 1, "reason": "x"})).fails(404)


async def test_an_operator_moves_no_money(service: Service, named: Named) -> None:
    app_id = named("app")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    operator = service.acting_as(service.make_token(Role.OPERATOR))
    (await operator.post(f"/accounts/{app_id}/credits", {"amount": 1})).fails(403, "admin")
    assert (await operator.get(f"/accounts/{app_id}")).ok()["balance"] == 0


async def test_an_app_with_money_held_stays(service: Service, named: Named) -> None:
    app_id = named("app")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    (await service.post(f"/accounts/{app_id}/credits", {"amount": 100})).ok(201)

    def hold_some(connection: Connection) -> None:
        hold(connection, app_id, named("call"), 40, Clock().now_ms())

    service.transact(hold_some)
    assert (await service.get(f"/accounts/{app_id}")).ok()["available"] == 60
    (await service.delete(f"/apps/{app_id}")).fails(409, "money held", "wait")
    assert (await service.get(f"/apps/{app_id}")).status == 200


async def test_an_account_outlives_its_app(service: Service, named: Named) -> None:
    app_id = named("app")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    (await service.post(f"/accounts/{app_id}/credits", {"amount": 100})).ok(201)
    (await service.delete(f"/apps/{app_id}")).ok(204)
    assert (await service.get(f"/accounts/{app_id}")).ok()["balance"] == 100
