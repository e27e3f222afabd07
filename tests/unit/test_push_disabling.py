"""Targets that are gone, or have only failed for days: they get no pushes until somebody says so."""

from __future__ import annotations

from typing import Any

import pytest
from push_office import Journal, Office, cdr, ids, status
from push_receivers import receiver
from sqlalchemy import update

from huibo.office import push_targets as targets
from huibo.office import pushes as office_pushes
from huibo.office.author import Author
from huibo.office.errors import NotFound
from huibo.office.push_targets import Named
from huibo.office.pushes import ReplayRange
from huibo.push import delivery
from huibo.push.sender import Outcome
from huibo.push.targets import Judge
from huibo.storage.outbox import OwedPush
from huibo.storage.push_targets import Failure, PushTarget
from huibo.storage.tables import push_targets

pytest_plugins = ["push_fixtures"]

APP = "1400000000"  # whose pushes `status` and `cdr` make
HOUR_MS = 3_600_000
NOW = 1_700_000_000_000
KEY = ("app", "http://h/in")
FAILED, WORKED = Outcome("HTTP 500", answered=True), Outcome(answered=True)
GONE = Outcome("HTTP 410", final=True, gone=True, answered=True)


def push(number: int = 1, url: str = "http://h/in?call=7") -> OwedPush:
    return OwedPush(number, "c", "app", "cdr", number, url, "http://h:80", b"{}", 0)


def since(hours: float, failed: float = 1, disabled_at: int | None = None) -> dict[Any, PushTarget]:
    at = NOW - round(hours * HOUR_MS)
    return {KEY: PushTarget(*KEY, at, NOW - round(failed * HOUR_MS), "HTTP 500", disabled_at)}


@pytest.mark.parametrize(
    ("known", "outcomes", "failed", "works"),
    [
        ({}, [WORKED], [], set()),
        ({}, [FAILED], [Failure(KEY, NOW, "HTTP 500", NOW)], set()),
        ({}, [FAILED, FAILED], [Failure(KEY, NOW, "HTTP 500", NOW)], set()),
        ({}, [FAILED, WORKED], [], set()),
        ({}, [GONE, WORKED, FAILED], [Failure(KEY, NOW, "HTTP 410", NOW, "HTTP 410")], set()),
        ({}, [Outcome("the URL is not usable", final=True)], [], set()),
        (since(1, 0.5), [FAILED], [], set()),
        (since(1), [FAILED], [Failure(KEY, NOW, "HTTP 500", NOW - HOUR_MS)], set()),
        (since(1), [FAILED, WORKED], [], {KEY}),
        (since(119), [FAILED], [Failure(KEY, NOW, "HTTP 500", NOW - 119 * HOUR_MS)], set()),
        (since(900, 49), [FAILED], [Failure(KEY, NOW, "HTTP 500", NOW)], set()),  # nothing in between
        (since(900, disabled_at=5), [FAILED, WORKED], [], set()),
    ],
)
def test_what_is_news(known: Any, outcomes: list[Outcome], failed: list[Failure], works: set[Any]) -> None:
    over = [(push(number), outcome) for number, outcome in enumerate(outcomes)]
    assert Judge(432_000).news(known, over, NOW) == (failed, works)


@pytest.mark.parametrize("failed_h", [0, 1, 47])
def test_five_days_of_failures_are_enough(failed_h: float) -> None:
    ((failure,), _) = Judge(432_000).news(since(120, failed_h), [(push(), FAILED)], NOW)
    assert failure.disable == "nothing but failures for 120 h, the last: HTTP 500"


async def listed(office: Office) -> list[targets.PushTarget]:
    return (await office.database.read(targets.page)).items


async def enable(office: Office, url: str) -> targets.PushTarget:
    by = Author("anna", "192.0.2.7", office.clock.now_ms())
    named = Named(app_id=APP, url=url)
    return await office.database.write(lambda connection: targets.enable(connection, by, named))


async def test_a_target_that_is_gone_gets_nothing_more(office: Office, journal: Journal) -> None:
    """Neither what it is owed already nor what is new; its call goes on with the others."""
    async with receiver(500, 410, 200) as customer, receiver() as fine:
        office.open(cdr_retry_s=[3600])
        await office.owe(cdr("c1", 1, customer.url("/in?call=1")))
        await journal.heard("push failed")
        await office.owe(status("c2", 1, customer.url("/in?call=2")))
        (told,) = await journal.heard("push target disabled")
        owed = [status("c2", seq, customer.url("/in?call=2")) for seq in (2, 3, 4)]
        await office.owe(*owed, cdr("c2", 5, fine.url()), cdr("c3", 1, customer.url("/other")))
        await fine.arrived(1)
        await customer.arrived(3)
        await office.stop()
    assert (told["app"], told["target"], told["reason"]) == (APP, customer.url("/in"), "HTTP 410")
    assert ids(customer) == ["c1-1", "c2-1", "c3-1"]
    buried = ("dead", 0, "target disabled: HTTP 410")
    assert await office.rows("state", "attempts", "last_error") == [
        ("dead", 1, "target disabled: HTTP 410"),
        ("dead", 1, "HTTP 410"),
        *[buried] * 3,
        ("delivered", 1, None),
        ("delivered", 1, None),
    ]
    (target,) = await listed(office)
    assert (target.url, target.reason) == (customer.url("/in"), "HTTP 410")
    assert target.disabled_at is not None


async def test_enabled_again_it_gets_what_is_new(office: Office, journal: Journal) -> None:
    async with receiver(410, 200) as customer:
        office.open()
        await office.owe(status("c1", 1, customer.url()))
        await journal.heard("push target disabled")
        await enable(office, customer.url("/push?any=1"))
        await office.owe(status("c2", 1, customer.url()))
        await customer.arrived(2)
        with pytest.raises(NotFound, match="push target"):
            await enable(office, customer.url())
        await office.stop()
    assert ids(customer) == ["c1-1", "c2-1"]
    assert await listed(office) == []


async def test_what_is_sent_once_more_enables_it(office: Office, journal: Journal) -> None:
    async with receiver(410, 200) as customer:
        office.open()
        await office.owe(cdr("c1", 1, customer.url()))
        await journal.heard("push target disabled")
        await office.owe(cdr("c2", 1, customer.url()), cdr("c3", 1, customer.url()))
        by = Author("anna", "cli", office.clock.now_ms())
        await office.stop()
        office.open()
        await office.database.write(lambda c: office_pushes.replay_range(c, by, ReplayRange(app_id=APP)))
        office.deliverer.wake()
        await customer.arrived(2)
        assert await listed(office) == []
        await office.database.write(lambda c: office_pushes.replay(c, by, 1))
        await office.stop()


async def test_days_of_failures_disable_it(office: Office, journal: Journal) -> None:
    async with receiver(500) as customer:
        office.open(cdr_retry_s=[3600] * 9)
        await office.owe(cdr("c1", 1, customer.url()))
        await journal.heard("push failed")
        await office.stop()
        (target,) = await listed(office)
        assert (target.last_error, target.disabled_at) == ("HTTP 500", None)
        assert target.failing_since == target.failed_at

        def age(connection: Any) -> None:
            long_ago = push_targets.c.failing_since - 120 * HOUR_MS
            connection.execute(update(push_targets).values(failing_since=long_ago))

        await office.database.write(age)
        office.open(cdr_retry_s=[3600] * 9)
        await office.owe(cdr("c2", 1, customer.url()))
        (told,) = await journal.heard("push target disabled")
        await office.stop()
    assert told["reason"] == "nothing but failures for 120 h, the last: HTTP 500"


async def test_a_success_ends_the_days_of_failures(office: Office) -> None:
    async with receiver(500, 200) as customer:
        office.open()
        await office.owe(cdr("c1", 1, customer.url()))
        await customer.arrived(2)
        await office.owe(cdr("c2", 1, customer.url()))  # when this is attempted the other is written down
        await customer.arrived(3)
        assert await listed(office) == []


async def test_a_target_that_works_costs_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_LOOK_S", 3600)
    async with receiver() as customer:
        office.open()
        await office.owe(cdr("c0", 1, customer.url()))
        await customer.arrived(1)
        counted = office.count()
        await office.owe(*(cdr(f"c{n}", 1, customer.url()) for n in range(1, 41)))
        await customer.arrived(41)
        await office.stop()
    assert [statement for statement in counted if "push_targets" in statement] == []
