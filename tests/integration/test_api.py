"""The operators' API with a real Asterisk: calls placed, followed, ended; trunks drained at run time."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import huibo
from huibo import config
from huibo.stack.stack import Stack
from huibo.storage.database import open_engine
from huibo.storage.tokens import Role
from tests.api.service import Service
from tests.integration.conftest import StartStack
from tests.integration.customer import PATIENCE_S, Customer

CALLER, CALLEE = "13800138000", "13900139001"  # the callee hangs up 5 s after its answer
STAYS = "13900139000"
PRESSES_1 = "13800138011"
OTHERS = {"caller": "13800138100", "callee": "13900139100"}
SIX = ("invited", "ringing", "answered", "refused", "hung_up", "failed")
EVERYTHING = [{"leg": leg, "moment": moment} for leg in ("caller", "callee") for moment in SIX]


@asynccontextmanager
async def operating(stack: Stack) -> AsyncIterator[Service]:
    engine = open_engine(config.load(stack.settings_file).database_url)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        service = Service(stack.base_url, http, engine, stack.log)
        yield service.acting_as(service.make_token(Role.ADMIN))
    engine.dispose()


@pytest.fixture
async def service(stack: Stack) -> AsyncIterator[Service]:
    async with operating(stack) as service:
        yield service


async def until(ask: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while not holds(found := (await ask()).ok()):
            await asyncio.sleep(0.1)
        return found


async def an_app(service: Service, app_id: str, number: str, **more: Any) -> None:
    """An app that no customer may use from here, with a number and a price."""
    (await service.put("/rates", {"plan": app_id, "per_minute": 6000})).ok()
    app = {"app_id": app_id, "url_id": "secret", "allowed_ips": ["192.0.2.1"], "rate_plan": app_id}
    (await service.post("/apps", app | more)).ok(201)
    (await service.post("/numbers", {"number": number, "apps": [app_id]})).ok(201)


async def test_a_call_is_placed_and_followed_to_its_recording(service: Service, customer: Customer) -> None:
    await an_app(service, "api-1", "02161000001", prepaid=True)
    new = {
        "app_id": "api-1",
        "caller": CALLER,
        "callee": CALLEE,
        "record": True,
        "biz_id": "fromtheapi",
        "status": EVERYTHING,
        "status_url": customer.receiver.url("status"),
        "cdr_url": customer.receiver.url("cdr"),
        "record_url": customer.receiver.url("recording"),
    }
    (await service.post("/calls", new)).fails(409, "balance")
    (await service.post("/accounts/api-1/credits", {"amount": 100_000})).ok(201)
    checked = (await service.post("/calls:check", new)).ok()
    assert (checked["would_go"], checked["refused"]) == (True, None)
    assert checked["caller_route"] == checked["callee_route"] == ["sandbox"]
    assert (checked["per_minute"], checked["hold"], checked["caller_display"]) == (
        12_000,
        100_000,
        "02161000001",
    )
    assert (await service.get("/calls", app_id="api-1")).ok()["items"] == []

    placed = (await service.post("/calls", new)).ok(201)
    call_id = placed["call_id"]
    assert placed["callee_display"] == "02161000001"
    held = (await service.get("/accounts/api-1")).ok()
    assert held["available"] == 100_000 - held["held"]
    assert held["held"] > 0
    call = customer.calls[call_id]
    await call.cdr()
    await call.recording()
    assert {"src answered", "dst answered"} <= set(call.told)

    whole = await until(
        lambda: service.get(f"/calls/{call_id}"),
        lambda one: (
            one["recording"] is not None
            and one["recording"]["state"] == "ready"
            and {push["state"] for push in one["pushes"]} == {"delivered"}
        ),
    )
    told = [(one["leg"], one["event"]) for one in whole["timeline"]]
    assert told[0] == (None, "accepted")
    assert told[-1] == (None, "over")
    for leg in ("caller", "callee"):
        own = [event for party, event in told if party == leg]
        assert own == ["dialled", "invited", "ringing", "answered", "ended"]
    assert [one["at"] for one in whole["timeline"]] == sorted(one["at"] for one in whole["timeline"])
    assert (whole["result"], whole["progress"], whole["biz_id"]) == ("talked", "over", "fromtheapi")
    assert whole["charge"] == 12_000
    assert (await service.get("/accounts/api-1")).ok()["balance"] == 100_000 - 12_000
    assert (await service.get("/accounts/api-1")).ok()["held"] == 0
    kinds = [push["kind"] for push in whole["pushes"]]
    assert kinds.count("status") == 8
    assert kinds[-2:] == ["cdr", "recording"]

    async with service.http.get(whole["recording"]["url"]) as file:
        assert file.status == 200
        assert len(await file.read()) == whole["recording"]["bytes"]
    viewer = service.acting_as(service.make_token(Role.VIEWER))
    assert (await viewer.get(f"/calls/{call_id}")).ok()["recording"]["url"] is None
    assert [one["action"] for one in await service.noted("call", call_id)] == ["place"]
    assert (await service.get("/calls", biz_id="fromtheapi")).ok()["items"][0]["call_id"] == call_id


async def test_the_customers_own_way_is_as_narrow_as_before(service: Service, customer: Customer) -> None:
    await an_app(service, "api-2", "02161000002")
    asked = customer.request(CALLER, CALLEE, appId="api-2")
    assert (await customer.post(asked))["errorCode"] == "-402"
    assert (await customer.post(asked, "/201511v3/callBack?id=secret"))["errorCode"] == "-403"
    assert (await customer.post(asked | {"by_operator": "1"}))["errorCode"] == "-402"
    assert (await service.get("/calls", app_id="api-2")).ok()["items"] == []


async def test_one_key_one_call_and_it_can_be_cancelled(service: Service) -> None:
    await an_app(service, "api-3", "02161000003")
    new = {"app_id": "api-3", "caller": CALLER, "callee": STAYS}
    headers = {"Idempotency-Key": "click-1"}
    first = await service.ask("POST", "/calls", new, headers=headers)
    again = await service.ask("POST", "/calls", new, headers=headers)
    call_id = first.ok(201)["call_id"]
    assert again.ok(201) == first.body
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = await service.ask("POST", "/calls", new | {"record": True}, headers=headers)
    other.fails(422, "used before")
    assert len((await service.get("/calls", app_id="api-3")).ok()["items"]) == 1

    talking = await until(lambda: service.get(f"/calls/{call_id}"), lambda one: one["progress"] == "talking")
    assert talking["ended_at"] is None
    assert (await service.get("/calls", app_id="api-3", live="true")).ok()["items"][0]["call_id"] == call_id
    (await service.delete("/apps/api-3")).fails(409, "1 calls under way")
    health = (await service.get("/health")).ok()
    assert health["ok"] is True
    assert health["cells"][0]["live_calls"] >= 1
    line = next(one for one in health["trunks"] if one["name"] == "sandbox")
    assert line["channels_in_use"] >= 2
    assert line["usable"] is True

    cancel = f"/calls/{call_id}:cancel"
    assert (await service.post(cancel, {"unless": "callee_answered"})).ok(202)["ending"] is False
    assert (await service.post(cancel, {})).ok(202) == {"call_id": call_id, "ending": True}
    over = await until(lambda: service.get(f"/calls/{call_id}"), lambda one: one["progress"] == "over")
    assert {one["reason"] for one in over["timeline"] if one["event"] == "ended"} == {"withdrawn"}
    (await service.post(cancel, {})).fails(409, "is over")
    actions = [one["action"] for one in await service.noted("call", call_id)]
    assert actions == ["place", "cancel", "cancel"]


async def test_a_call_with_a_menu(service: Service, customer: Customer) -> None:
    await an_app(service, "api-4", "02161000004")
    key_url = customer.receiver.url("key")
    menu = {"prompt": "接听请按1", "keys": {"1": "connect", "2": "release"}, "key_url": key_url}
    new = {"app_id": "api-4", "caller": PRESSES_1, "callee": CALLEE, "menu": menu}
    call_id = (await service.post("/calls", new)).ok(201)["call_id"]
    await customer.calls[call_id].until_keys(1)
    assert [push["key"] for push in customer.calls[call_id].keys] == ["1"]
    over = await until(lambda: service.get(f"/calls/{call_id}"), lambda one: one["progress"] == "over")
    assert over["result"] == "talked"


async def test_a_trunk_is_drained_and_comes_back(own: StartStack) -> None:
    stack, _ = await own()
    async with operating(stack) as service:
        new = {"app_id": "demo", "caller": CALLER, "callee": STAYS}
        call_id = (await service.post("/calls", new)).ok(201)["call_id"]
        await until(lambda: service.get(f"/calls/{call_id}"), lambda one: one["progress"] == "talking")
        (await service.patch("/trunks/sandbox", {"state": "draining"})).ok()
        refused = await service.post("/calls", new)
        refused.fails(503, "no line")
        assert (refused.body["rule"], refused.body["code"]) == ("line", "-3")
        checked = (await service.post("/calls:check", new)).ok()
        assert checked["refused"]["rule"] == "line"
        assert (await service.get(f"/calls/{call_id}")).ok()["progress"] == "talking"
        (await service.patch("/trunks/sandbox", {"state": "active"})).ok()
        back = (await service.post("/calls", new | OTHERS)).ok(201)["call_id"]
        await until(lambda: service.get(f"/calls/{back}"), lambda one: one["progress"] == "talking")
        assert (await service.get(f"/calls/{call_id}")).ok()["progress"] == "talking"


async def test_the_examples_of_the_documentation(stack: Stack, service: Service) -> None:
    """All of docs/api.md, in its order, by the shell that its readers use."""
    text = (Path(huibo.__file__).parents[1] / "docs/api.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    told = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", "".join(blocks).replace("curl -sS", "curl -sS --fail-with-body")),
        env={"PATH": os.environ["PATH"], "HUIBO": stack.base_url, "TOKEN": service.token or ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await told.communicate()
    assert told.returncode == 0, output.decode()
    assert len(blocks) >= 8
    assert '"would_go":true' in output.decode()
    assert '"taken":2' in output.decode()
