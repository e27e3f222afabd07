"""Every code of the callback API, reached over HTTP for its real reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import Connection

from huibo import config
from huibo.model import App, AppSettings, AppState, DisplayNumber, Trunk
from huibo.rating import Rate
from huibo.stack.stack import DEMO_APP, Stack
from huibo.storage import accounts, blacklist, catalog, rates
from huibo.storage.calls import unfinished
from huibo.storage.database import Database
from tests.integration.conftest import StartStack
from tests.integration.customer import Customer

PATH = "/201511v3/callBack?id=demo"
NUMBER = "02131264133"
RARE = "02000000001"  # may be shown on no trunk that there is
APPS = (
    App("broke", "demo", settings=AppSettings(rate_plan="plan", prepaid=True)),
    App("paid", "demo", settings=AppSettings(rate_plan="plan", prepaid=True)),
    App("blocked", "demo", state=AppState.BLOCKED),
    App("far", "demo", allowed_ips=("192.0.2.1",)),
)


@dataclass(frozen=True)
class Case:
    """A request that gets a code: what is otherwise than in a good one, and the words of the answer."""

    code: str
    says: str
    fields: dict[str, Any] = field(default_factory=dict)
    path: str = PATH
    host: bool = True

    def __str__(self) -> str:
        return f"{self.code} {self.says}"


CASES = [
    Case("0", "", {"appId": "paid"}),
    Case("-1", "version not supported", path="/201511v4/callBack?id=demo"),
    Case("-2", "record: ", {"record": "7"}),
    Case("-3", f"no line available that may show {RARE}", {"dstDisplayNum": RARE}),
    Case("-5", "host header missing", host=False),
    Case("-101", "src: ", {"src": "0086021123"}),
    Case("-102", "dstDisplayNum: not a number of this appId", {"dstDisplayNum": "02199999999"}),
    Case("-103", "statusUrl: ", {"statusUrl": "ftp://example.com/"}),
    Case("-104", "bizId: ", {"bizId": "not-alphanumeric"}),
    Case("-105", "balance exhausted", {"appId": "broke"}),
    Case("-110", "dst: number on the blacklist", {"dst": "008613999990000"}),
    Case("-401", "appId invalid", {"appId": "nobody"}),
    Case("-402", "url does not match appId", path="/201511v3/callBack?id=another"),
    Case("-403", "ip not allowed", {"appId": "far"}),
    Case("-423", "appId blocked", {"appId": "blocked"}),
    Case("-501", "server disabled"),  # the last: the engine is gone
]


def furnish(connection: Connection) -> None:
    for app in APPS:
        catalog.add_app(connection, app, 1)
    names = tuple(app.app_id for app in (*APPS, DEMO_APP))
    number = catalog.find_number(connection, NUMBER)
    assert number is not None
    catalog.change_number(connection, replace(number, apps=names))
    catalog.add_trunk(connection, Trunk("elsewhere", "127.0.0.1", 9, prefixes=("8699",), options_s=0), 1)
    catalog.add_number(connection, DisplayNumber(RARE, apps=names, trunks=("elsewhere",)), 1)
    rates.put_rate(connection, "plan", Rate("86", per_minute=6000), "", 1)
    accounts.pay_in(connection, "paid", 10**9, "test", "", 1)
    blacklist.put_listed(connection, [blacklist.Listed("8613999", exact=False)], 1)


@pytest.fixture(scope="module")
async def furnished(
    start_stack: Callable[[AsyncExitStack], StartStack],
) -> AsyncIterator[tuple[Stack, Customer, Database]]:
    async with AsyncExitStack() as exits:
        stack, customer = await start_stack(exits)()
        database = Database(config.load(stack.settings_file).database_url)
        exits.push_async_callback(database.close)
        database.write_now(furnish)
        yield stack, customer, database


async def ask(customer: Customer, case: Case) -> dict[str, str]:
    body = customer.request("13800138004", "13900139004") | {"requestId": "r-1"} | case.fields
    if case.host:
        return await customer.post(body, case.path)
    data = json.dumps(body).encode()
    host, port = customer.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST %b HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % (case.path.encode(), len(data)) + data)
    answer = await reader.read()
    writer.close()
    head, _, body_of_answer = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    decoded: dict[str, str] = json.loads(body_of_answer)
    return decoded


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_each_code_is_answered_for_its_reason(
    furnished: tuple[Stack, Customer, Database], case: Case
) -> None:
    stack, customer, database = furnished
    before = set(database.read_now(lambda connection: [call.call_id for call, _ in unfinished(connection)]))
    if case.code == "-501":
        await stack.engine_child.stop()
        await customer.until_ready(False)
    answer = await ask(customer, case)
    assert (answer["errorCode"], answer["requestId"]) == (case.code, "r-1")
    if case.code == "0":
        cancelled = await customer.post(
            {"appId": "paid", "callId": answer["callId"]}, "/201511v3/callCancel?id=demo"
        )
        assert cancelled["errorCode"] == "0"
        return
    assert answer["msg"].startswith(case.says)
    after = set(database.read_now(lambda connection: [call.call_id for call, _ in unfinished(connection)]))
    assert after <= before


def test_no_code_is_left_out() -> None:
    documented = {0, -1, -2, -3, -5, -101, -102, -103, -104, -105, -110, -401, -402, -403, -423, -501}
    assert {int(case.code) for case in CASES} == documented
