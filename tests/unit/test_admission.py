"""Admission on a real database: who gets a call, who gets which refusal; a refusal leaves nothing."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Connection, func, select

from huibo.admission.admit import Admission, Admitted, new_call_id
from huibo.clock import Clock
from huibo.config import load
from huibo.errors import Refusal, Refused
from huibo.flow.state import CallState
from huibo.model import (
    App,
    AppSettings,
    AppState,
    Call,
    CallRequest,
    DisplayMode,
    DisplayNumber,
    IdempotencyKey,
    Leg,
    RingSound,
    Trunk,
    TrunkState,
)
from huibo.ports import Engine, LineHealth
from huibo.storage import catalog
from huibo.storage.calls import unfinished
from huibo.storage.database import Database, open_engine
from huibo.storage.migrate import migrate
from huibo.storage.tables import metadata

APP = App("shop", "url-id", allowed_ips=("192.0.2.0/24",), status_url="http://app/s", cdr_url="http://app/c")
OTHER = App("other", "other", allowed_ips=("192.0.2.0/24",))
POOL = ("02131264133", "075561948986", "4001360123")
FIRST, SECOND = Trunk("first", "192.0.2.1", priority=1), Trunk("second", "192.0.2.2", priority=2)
REQUEST = CallRequest(
    app_id="shop", url_id="url-id", remote_ip="192.0.2.7", caller="+8613800138000", callee="+8675586013388"
)


@dataclass
class Switch:
    """An engine as far as admission looks at it."""

    ready: bool = True
    down: set[str] = field(default_factory=set)

    def line(self, trunk: str) -> LineHealth:
        return LineHealth(reachable=trunk not in self.down)


class Desk:
    """Admission with one app, its numbers and two trunks."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.switch = Switch()
        self.settings = load().calls
        self.admission = Admission(database, cast(Engine, self.switch), Clock(), self.settings)

    async def accept(self, **changes: Any) -> tuple[Call, CallState]:
        admitted = await self.admission.accept(replace(REQUEST, **changes))
        assert not admitted.replayed
        return admitted.call, admitted.state

    async def refused(self, **changes: Any) -> Refused:
        with pytest.raises(Refused) as refused:
            await self.accept(**changes)
        return refused.value

    async def rows(self) -> dict[str, int]:
        """How many rows each table has."""

        def count(connection: Connection) -> dict[str, int]:
            return {
                name: connection.scalars(select(func.count()).select_from(table)).one()
                for name, table in metadata.tables.items()
            }

        return await self.database.read(count)

    async def change(self, work: Callable[[Connection], Any]) -> None:
        await self.database.write(work)


def furnish(connection: Connection) -> None:
    catalog.add_app(connection, APP, 1)
    catalog.add_app(connection, OTHER, 1)
    for number in POOL:
        catalog.add_number(connection, DisplayNumber(number, apps=("shop",)), 1)
    catalog.add_number(connection, DisplayNumber("01088880000", apps=("other",)), 1)
    catalog.add_trunk(connection, SECOND, 1)
    catalog.add_trunk(connection, FIRST, 1)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a database with the app, its numbers and trunks, to be copied."""
    file = tmp_path_factory.mktemp("furnished") / "huibo.sqlite3"
    engine = open_engine(f"sqlite:///{file}")
    migrate(engine)
    with engine.begin() as connection:
        furnish(connection)
    engine.dispose()
    return file


@pytest.fixture
async def desk(furnished: Path, tmp_path: Path) -> AsyncIterator[Desk]:
    shutil.copy(furnished, tmp_path)
    database = Database(f"sqlite:///{tmp_path / furnished.name}")
    yield Desk(database)
    await database.close()


Spoil = Callable[[Desk], Awaitable[Any]]


async def no_engine(desk: Desk) -> None:
    desk.switch.ready = False


async def no_line(desk: Desk) -> None:
    for trunk in (FIRST, SECOND):
        await desk.change(lambda connection, name=trunk.name: catalog.remove_trunk(connection, name))


async def no_numbers(desk: Desk) -> None:
    for number in POOL:
        await desk.change(lambda connection, number=number: catalog.remove_number(connection, number))


async def nothing(_desk: Desk) -> None:
    pass


# In the order in which they are answered: what is wrong with the request, or with the world, and the refusal.
WRONGS: list[tuple[dict[str, Any], Spoil, Refusal]] = [
    ({"app_id": "nobody"}, nothing, Refusal.APP),
    ({"url_id": "other"}, nothing, Refusal.URL_ID),
    ({"remote_ip": "198.51.100.1"}, nothing, Refusal.ADDRESS),
    ({"caller_display": "01088880000"}, nothing, Refusal.DISPLAY_NUMBER),
    ({}, no_engine, Refusal.UNAVAILABLE),
    ({}, no_line, Refusal.NO_LINE),
]


@pytest.mark.parametrize(("changes", "spoil", "refusal"), WRONGS)
async def test_each_check_refuses_and_nothing_is_written(
    desk: Desk, changes: dict[str, Any], spoil: Spoil, refusal: Refusal
) -> None:
    await spoil(desk)
    before = await desk.rows()
    assert (await desk.refused(**changes)).refusal is refusal
    assert await desk.rows() == before
    assert before["calls"] == 0


@pytest.mark.parametrize("first", range(len(WRONGS) - 1))
async def test_the_first_of_several_wrongs_is_answered(desk: Desk, first: int) -> None:
    changes: dict[str, Any] = {}
    for wrong, spoil, _ in WRONGS[first:]:
        changes |= wrong
        await spoil(desk)
    assert (await desk.refused(**changes)).refusal is WRONGS[first][2]


async def test_who_asks_is_settled_without_a_request(desk: Desk) -> None:
    await no_engine(desk)
    await desk.admission.authenticate("shop", "url-id", "192.0.2.7")
    for wrong, refusal in (
        (("nobody", "url-id", "192.0.2.7"), Refusal.APP),
        (("shop", "x", "198.51.100.1"), Refusal.URL_ID),
        (("shop", "url-id", "198.51.100.1"), Refusal.ADDRESS),
    ):
        with pytest.raises(Refused) as refused:
            await desk.admission.authenticate(*wrong)
        assert refused.value.refusal is refusal


@pytest.mark.parametrize("field", ["caller_display", "callee_display"])
@pytest.mark.parametrize("number", ["01088880000", "99999", "02131264133 "])
async def test_only_the_apps_own_numbers_are_shown(desk: Desk, field: str, number: str) -> None:
    refused = await desk.refused(**{field: number})
    assert refused.refusal is Refusal.DISPLAY_NUMBER
    named = {"caller_display": "srcDisplayNum", "callee_display": "dstDisplayNum"}[field]
    assert refused.message.startswith(f"{named}: ")


async def test_an_app_without_numbers_has_none_to_show(desk: Desk) -> None:
    await no_numbers(desk)
    assert (await desk.refused()).refusal is Refusal.DISPLAY_NUMBER
    assert (await desk.refused(caller_display=POOL[0])).refusal is Refusal.DISPLAY_NUMBER


async def test_numbers_that_were_asked_for_are_shown(desk: Desk) -> None:
    call, _ = await desk.accept(caller_display=POOL[2], callee_display=POOL[1])
    assert (call.caller_display, call.callee_display) == (POOL[2], POOL[1])
    call, _ = await desk.accept(callee_display=POOL[0])
    assert call.callee_display == POOL[0]
    assert call.caller_display in POOL


async def test_other_numbers_are_chosen_by_chance_from_the_apps_own(desk: Desk) -> None:
    calls = [call for call, _ in await asyncio.gather(*(desk.accept() for _ in range(60)))]
    # One of three numbers never in 60 draws: once in 10^10 runs
    assert {call.caller_display for call in calls} == set(POOL)
    assert {call.callee_display for call in calls} == set(POOL)
    assert any(call.caller_display != call.callee_display for call in calls)


@pytest.mark.parametrize(
    ("mode", "caller_sees", "callee_sees"),
    [
        (DisplayMode.MUTUAL, ("075586013388",), ("13800138000",)),
        (DisplayMode.CALLEE, POOL, ("13800138000",)),
    ],
)
async def test_an_app_may_show_the_parties_each_other(
    desk: Desk, mode: DisplayMode, caller_sees: tuple[str, ...], callee_sees: tuple[str, ...]
) -> None:
    app = replace(APP, app_id=mode.value, url_id="m", settings=AppSettings(display=mode))
    await desk.change(lambda connection: catalog.add_app(connection, app, 1))
    asker = {"app_id": app.app_id, "url_id": "m"}
    if mode is DisplayMode.CALLEE:
        assert (await desk.refused(**asker)).refusal is Refusal.DISPLAY_NUMBER
        await no_numbers(desk)
        for number in POOL:
            await desk.change(
                lambda c, number=number: catalog.add_number(c, DisplayNumber(number, apps=(app.app_id,)), 1)
            )
    call, _ = await desk.accept(**asker)
    assert call.caller_display in caller_sees
    assert call.callee_display in callee_sees
    assert (await desk.refused(**asker, callee_display="99999")).refusal is Refusal.DISPLAY_NUMBER


async def test_what_is_accepted_is_what_is_in_the_database(desk: Desk) -> None:
    began = Clock().now_ms()
    call, state = await desk.accept(
        request_id="r-1",
        max_talk_s=120,
        status_mask=16191,
        status_url="https://customer/s",
        cdr_url="https://customer/c",
        biz_id="Biz42",
        order_id="订单42",
    )
    assert await desk.database.read(unfinished) == [(call, state)]
    assert (call.app_id, call.request_id, call.caller, call.callee) == (
        "shop",
        "r-1",
        REQUEST.caller,
        REQUEST.callee,
    )
    assert (call.biz_id, call.order_id, call.status_mask, call.max_talk_s) == ("Biz42", "订单42", 16191, 120)
    assert (call.status_url, call.cdr_url) == ("https://customer/s", "https://customer/c")
    assert began - 1000 <= call.accepted_at <= Clock().now_ms() + 1000
    assert state.accepted_at == call.accepted_at
    assert not state.over
    assert state.caller.dialled_at is None


async def test_what_the_request_leaves_open_comes_from_the_app_and_the_settings(desk: Desk) -> None:
    call, state = await desk.accept()
    assert (call.status_url, call.cdr_url) == (APP.status_url, APP.cdr_url)
    assert (call.request_id, call.biz_id, call.order_id, call.status_mask) == ("", "", "", 0)
    assert call.max_talk_s == state.plan.max_talk_s == 30 * 60
    assert (state.plan.caller_ring_s, state.plan.callee_ring_s) == (60, 60)
    assert state.plan.dispatch_deadline_s == 30
    other, _ = await desk.accept(app_id="other", url_id="other")
    assert (other.status_url, other.cdr_url) == (None, None)


async def test_the_plan_is_that_of_the_settings_and_the_request(desk: Desk) -> None:
    settings = desk.settings.model_copy(
        update={"dispatch_deadline_s": 7, "caller_ring_s": 8, "callee_ring_s": 9, "default_talk_min": 2}
    )
    admission = Admission(desk.database, cast(Engine, desk.switch), Clock(), settings)
    plan = (await admission.accept(REQUEST)).state.plan
    assert (plan.dispatch_deadline_s, plan.caller_ring_s, plan.callee_ring_s) == (7, 8, 9)
    assert plan.max_talk_s == 120
    short = await admission.accept(replace(REQUEST, max_talk_s=60))
    assert short.call.max_talk_s == short.state.plan.max_talk_s == 60


async def test_the_trunk_tried_first_is_taken(desk: Desk) -> None:
    assert (await desk.accept())[0].caller_trunk == FIRST.name
    await desk.change(lambda connection: catalog.remove_trunk(connection, FIRST.name))
    assert (await desk.accept())[0].caller_trunk == SECOND.name


async def test_another_trunk_than_the_last_calls_is_taken_if_there_is_one(desk: Desk) -> None:
    last, _ = await desk.accept()
    again, _ = await desk.accept(last_call_id=last.call_id)
    assert (last.caller_trunk, again.caller_trunk) == (FIRST.name, SECOND.name)
    others, _ = await desk.accept(app_id="other", url_id="other")
    assert (await desk.accept(last_call_id=others.call_id))[
        0
    ].caller_trunk == FIRST.name  # nothing is told of others' calls
    assert (await desk.accept(last_call_id="nonsense"))[0].caller_trunk == FIRST.name
    await desk.change(lambda connection: catalog.remove_trunk(connection, SECOND.name))
    assert (await desk.accept(last_call_id=last.call_id))[0].caller_trunk == FIRST.name


async def test_an_apps_own_settings_go_over_the_configuration(desk: Desk) -> None:
    own = AppSettings(caller_ring_s=11, callee_ring_s=12, ring_sound=RingSound.NONE, warn=(Leg.CALLEE,))
    app = replace(APP, app_id="own", url_id="own", settings=own)
    await desk.change(lambda connection: catalog.add_app(connection, app, 1))
    await desk.change(
        lambda connection: catalog.add_number(connection, DisplayNumber("02100000000", apps=("own",)), 1)
    )
    _, state = await desk.accept(app_id="own", url_id="own")
    plan = state.plan
    assert (plan.caller_ring_s, plan.callee_ring_s) == (11, 12)
    assert (plan.ring_sound, plan.warn) == (RingSound.NONE, (Leg.CALLEE,))
    _, state = await desk.accept()
    assert (state.plan.ring_sound, state.plan.warn) == (desk.settings.ring_sound, desk.settings.warn)


async def test_only_trunks_that_are_not_in_use_are_no_line(desk: Desk) -> None:
    await no_line(desk)
    await desk.change(
        lambda connection: catalog.add_trunk(connection, replace(FIRST, state=TrunkState.OFF), 1)
    )
    assert (await desk.refused()).refusal is Refusal.NO_LINE


async def test_an_engine_that_comes_back_takes_calls_again(desk: Desk) -> None:
    desk.switch.ready = False
    assert (await desk.refused()).refusal is Refusal.UNAVAILABLE
    desk.switch.ready = True
    await desk.accept()
    assert (await desk.rows())["calls"] == 1


async def test_requests_that_come_together_do_not_disturb_each_other(desk: Desk) -> None:
    requests = [replace(REQUEST, request_id=str(n), app_id="shop" if n % 2 else "nobody") for n in range(40)]
    results = await asyncio.gather(*map(desk.admission.accept, requests), return_exceptions=True)
    accepted = [result.call for result in results if isinstance(result, Admitted)]
    assert [call.request_id for call in accepted] == [str(n) for n in range(40) if n % 2]
    assert all(isinstance(result, Refused) for result in results[::2])
    assert len({call.call_id for call in accepted}) == 20
    stored = await desk.database.read(unfinished)
    assert {call.call_id for call, _ in stored} == {call.call_id for call in accepted}


KEY = IdempotencyKey("key-1", "0" * 64)


async def test_a_key_that_was_seen_before_gives_the_same_call(desk: Desk) -> None:
    first = await desk.admission.accept(REQUEST, KEY)
    written = await desk.rows()
    assert not first.replayed
    await no_engine(desk)  # what was accepted stays accepted
    again = await desk.admission.accept(REQUEST, KEY)
    assert again.replayed
    assert again.call.call_id == first.call.call_id
    assert await desk.rows() == written


async def test_requests_with_one_key_that_come_together_are_one_call(desk: Desk) -> None:
    admitted = await asyncio.gather(*(desk.admission.accept(REQUEST, KEY) for _ in range(10)))
    assert len({one.call.call_id for one in admitted}) == 1
    assert [one.replayed for one in admitted].count(False) == 1
    assert (await desk.rows())["calls"] == 1


async def test_a_key_belongs_to_one_body_and_one_app(desk: Desk) -> None:
    first = await desk.admission.accept(REQUEST, KEY)
    with pytest.raises(Refused, match="Idempotency-Key") as refused:
        await desk.admission.accept(REQUEST, replace(KEY, digest="1" * 64))
    assert refused.value.refusal is Refusal.PARAMETER
    other = await desk.admission.accept(replace(REQUEST, app_id="other", url_id="other"), KEY)
    assert not other.replayed
    assert other.call.call_id != first.call.call_id


async def test_a_key_tells_a_stranger_nothing(desk: Desk) -> None:
    await desk.admission.accept(REQUEST, KEY)
    for wrong, refusal in (
        ({"app_id": "nobody"}, Refusal.APP),
        ({"url_id": "x"}, Refusal.URL_ID),
        ({"remote_ip": "198.51.100.1"}, Refusal.ADDRESS),
    ):
        with pytest.raises(Refused) as refused:
            await desk.admission.accept(replace(REQUEST, **wrong), KEY)
        assert refused.value.refusal is refusal
    await desk.change(lambda c: catalog.change_app(c, replace(APP, state=AppState.BLOCKED)))
    with pytest.raises(Refused, match="blocked"):
        await desk.admission.accept(REQUEST, KEY)
    assert (await desk.admission.accept(replace(REQUEST, by_operator=True), KEY)).replayed


async def test_a_refused_request_leaves_its_key_free(desk: Desk) -> None:
    await no_engine(desk)
    with pytest.raises(Refused):
        await desk.admission.accept(REQUEST, KEY)
    desk.switch.ready = True
    assert not (await desk.admission.accept(REQUEST, KEY)).replayed


def test_the_form_of_a_call_id() -> None:
    at = int(datetime(2026, 1, 2, 23, 59, 59, tzinfo=UTC).timestamp() * 1000)
    ids = {new_call_id(at) for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"12-260102-[0-9a-f]{32}", one) for one in ids)
