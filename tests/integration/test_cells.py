"""Two huibo, each with an Asterisk of its own, on one PostgreSQL."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from sqlalchemy import Connection, make_url

from huibo.model import App, AppSettings
from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneMoment
from huibo.stack.stack import Stack
from huibo.storage import catalog
from huibo.storage.database import Database
from tests.integration.conftest import StartStack
from tests.integration.customer import PATIENCE_S, Customer
from tests.integration.test_survival import kill
from tests.postgres import running

LOST_AFTER_S = 5.0
Cell = tuple[Stack, Customer]


@pytest.fixture(scope="module")
async def database() -> AsyncIterator[Database]:
    with running() as server:
        url = make_url(server.replace("postgresql://", "postgresql+psycopg://", 1))
        found = Database(url.render_as_string(hide_password=False))
        yield found
        await found.close()


@pytest.fixture(scope="module")
async def cells(
    database: Database, start_stack: Callable[[AsyncExitStack], StartStack]
) -> AsyncIterator[tuple[Cell, Cell]]:
    async with AsyncExitStack() as exits:
        started = []
        for name in ("one", "two"):
            cell = {"name": name, "lost_after_s": LOST_AFTER_S, "beat_s": 0.5}
            url = database.engine.url.render_as_string(hide_password=False)
            started.append(await start_stack(exits)({"": {"database_url": url}, "cell": cell}))
        yield started[0], started[1]


def hung_up(number: str, *stacks: Stack) -> bool:
    """Whether that phone's call is over, on either carrier: both cells use the trunk entered last."""
    events = [event for stack in stacks for event in journal.read(stack.carrier.calls_log)]
    return any(event.number == number and event.event is PhoneMoment.HUNG_UP for event in events)


async def asks(customer: Customer, operation: str, **fields: str) -> dict[str, str]:
    return await customer.post({"appId": "demo"} | fields, f"/201511v3/{operation}?id=demo")


async def test_any_cell_answers_for_any_call(cells: tuple[Cell, Cell]) -> None:
    (_, one), (_, two) = cells
    call = await one.call("13800002100", "13900002100")
    await call.until_told("dst answered")
    status = await asks(two, "getStatus", callId=call.call_id)
    assert (status["errorCode"], status["callStatus"]) == ("0", "4")
    left = await asks(two, "callCancel", callId=call.call_id, cancelFlag="2")  # the caller has answered: no
    assert (left["errorCode"], bool(left["msg"])) == ("0", True)
    assert (await asks(two, "getStatus", callId=call.call_id))["callStatus"] == "4"
    ended = await asks(two, "callCancel", callId=call.call_id)
    assert ended == {"errorCode": "0", "msg": "", "callId": call.call_id}
    pushed = await call.cdr()
    found = await asks(two, "getCdr", callId=call.call_id)
    assert found["cdr"][0]["endCallTime"] == pushed["endCallTime"]  # type: ignore[index]
    assert (await asks(two, "callCancel", callId=call.call_id))["errorCode"] == "-201"


async def test_limits_hold_across_cells(cells: tuple[Cell, Cell], database: Database) -> None:
    (_, one), (_, two) = cells

    def enter(connection: Connection) -> None:
        own = AppSettings(calls_at_once=3)
        catalog.add_app(connection, App("limited", "demo", settings=own), 1)
        for number in catalog.list_numbers(connection):
            catalog.change_number(connection, replace(number, apps=(*number.apps, "limited")))

    database.write_now(enter)
    requests = [
        cell.post(cell.request(f"1380002{n}204", f"1390002{n}204") | {"appId": "limited"})
        for n in range(10)
        for cell in (one, two)
    ]
    answers = await asyncio.gather(*requests)
    assert Counter(answer["errorCode"] for answer in answers) == {"0": 3, "-423": 17}
    for answer in answers:
        if answer["errorCode"] == "0":
            body = {"appId": "limited", "callId": answer["callId"]}
            assert (await two.post(body, "/201511v3/callCancel?id=demo"))["errorCode"] == "0"


async def test_the_calls_of_a_dead_cell_are_closed_by_another(cells: tuple[Cell, Cell]) -> None:
    (stack, one), (other, two) = cells
    call = await one.call("13800002300", "13900002300")
    await call.until_told("dst answered")
    kill(stack.control_child.pid)
    await stack.control_child.process.wait()
    cdr = await call.cdr()
    assert cdr["callEndStatus"] == "1"
    assert [told for told in call.told if "disaccept" in told] == ["src disaccept", "dst disaccept"]
    placed = await two.call("13800002401", "13900002401")  # meanwhile the other one works
    await stack.control_child.start()
    await one.until_ready()  # what its Asterisk still holds of that call is nobody's: it is ended
    assert (await placed.cdr())["callEndStatus"] == "1"
    assert len(call.cdrs) == 1
    async with asyncio.timeout(PATIENCE_S):
        while not hung_up("13900002300", stack, other):
            await asyncio.sleep(0.05)


async def test_a_second_process_of_the_same_cell_does_not_start(cells: tuple[Cell, Cell]) -> None:
    (stack, _), _ = cells
    environment = dict(stack.control_child.env)
    environment |= {"HUIBO_HTTP__PORT": "0", "HUIBO_CELL__PATIENCE_S": "0.5"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "huibo", "serve"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert "another huibo runs as cell one" in said.decode().splitlines()[-1]
    assert "Traceback" not in said.decode()
