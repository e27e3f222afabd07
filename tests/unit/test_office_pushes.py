"""What operators do with pushes: look at them, and have them sent once more, while a deliverer is at work."""

from __future__ import annotations

from typing import Any

import pytest
from push_office import Journal, Office, cdr, ids, status
from push_receivers import receiver
from sqlalchemy import select

from huibo.model import Push
from huibo.office import pushes
from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.office.pushes import PushKind, PushState, Range, Replayed, ReplayRange
from huibo.push import delivery
from huibo.storage.database import Database
from huibo.storage.tables import audit

pytest_plugins = ["push_fixtures"]

APP = "1400000000"  # whose pushes `status` and `cdr` make


async def listed(office: Office, after: str | None = None, limit: int = 50, **wanted: Any) -> Any:
    asked = Range(**wanted)
    return await office.database.read(lambda connection: pushes.page(connection, asked, after, limit))


async def shown(office: Office, push_id: int) -> pushes.PushWithBody:
    return await office.database.read(lambda connection: pushes.show(connection, push_id))


def author(office: Office) -> Author:
    return Author("anna", "192.0.2.7", office.clock.now_ms())


async def replay(office: Office, push_id: int) -> pushes.Push:
    by = author(office)
    return await office.database.write(lambda connection: pushes.replay(connection, by, push_id))


async def replay_range(office: Office, after: str | None = None, most: int = 1000, **wanted: Any) -> Replayed:
    by, asked = author(office), ReplayRange(**wanted)
    return await office.database.write(
        lambda connection: pushes.replay_range(connection, by, asked, after, most)
    )


async def noted(office: Office) -> list[dict[str, Any]]:
    return await office.database.read(
        lambda connection: [dict(row) for row in connection.execute(select(audit)).mappings()]
    )


async def give_up(office: Office, journal: Journal, *owing: Push) -> None:
    """Have pushes attempted until they are dead."""
    already = len(journal.of("push dead"))
    await office.owe(*owing)
    await journal.heard("push dead", already + len(owing))
    await office.stop()


async def test_pages_of_pushes_the_newest_first(office: Office) -> None:
    await office.owe(*(cdr(f"c{number}", 1, "http://hook.example/") for number in range(5)))
    seen, after = [], None
    while True:
        page = await listed(office, after, limit=2)
        seen += [push.call_id for push in page.items]
        if (after := page.next) is None:
            break
    assert seen == ["c4", "c3", "c2", "c1", "c0"]
    only = await listed(office, call_id="c3")
    (push,) = only.items
    assert (push.webhook_id, push.app_id, push.kind) == ("c3-1", APP, PushKind.CDR)
    assert (push.state, push.attempts, push.next_at) == (PushState.PENDING, 0, push.created_at)
    assert only.next is None
    for after in ("nonsense", pushes.cursor("c3"), pushes.cursor(1, 2)):
        with pytest.raises(Invalid, match="cursor"):
            await listed(office, after)


async def test_one_push_with_what_it_says(office: Office, journal: Journal) -> None:
    async with receiver(410) as customer:
        office.open()
        url = customer.url().replace("//", "//user:geheim@")
        await give_up(office, journal, Push("c1", APP, "cdr", 4, url, '{"a":"中文"}'.encode()))
    push = await shown(office, 1)
    assert (push.state, push.attempts, push.last_error) == (PushState.DEAD, 1, "HTTP 410")
    assert (push.body, push.next_at, push.replayed_at) == ('{"a":"中文"}', None, None)
    assert push.finished_at is not None
    assert push.url == customer.url().replace("//", "//user:***@")
    for missing in (2, 0, -1, 2**70):
        with pytest.raises(NotFound, match=f"no push {missing}"):
            await shown(office, missing)
        with pytest.raises(NotFound, match=f"no push {missing}"):
            await replay(office, missing)


@pytest.mark.parametrize("fate", [200, 410])
async def test_a_push_is_sent_once_more_under_the_same_id(
    office: Office, journal: Journal, fate: int
) -> None:
    async with receiver(fate, 503, 200) as customer:
        office.open(cdr_retry_s=[0.05, 0.05])
        await office.owe(cdr("c1", 1, customer.url()))
        await customer.answered(1)
        await office.stop()
        office.open(cdr_retry_s=[0.05, 0.05])
        replayed = await replay(office, 1)
        office.deliverer.wake()
        await customer.arrived(3)
        await office.stop()
    assert (replayed.state, replayed.attempts) == (PushState.PENDING, 0)
    assert ids(customer) == ["c1-1"] * 3
    assert len({each.body for each in customer.got}) == 1
    assert await office.outcome() == ("delivered", 2, None)
    (entry,) = [one for one in await noted(office) if one["kind"] == "push"]
    assert (entry["author"], entry["origin"]) == ("anna", "192.0.2.7")
    assert (entry["action"], entry["kind"], entry["subject"]) == ("replay", "push", "1")
    assert entry["before"]["state"] == ("delivered" if fate == 200 else "dead")
    assert "body" not in entry["before"] | entry["after"]


async def test_a_replay_by_another_process_leaves_within_seconds(office: Office, journal: Journal) -> None:
    async with receiver(500, 200) as customer:
        office.open(cdr_retry_s=[])
        await office.owe(cdr("c1", 1, customer.url()))
        await journal.heard("push dead")
        await customer.answered(1)
        elsewhere = Database(office.url)
        by = author(office)
        elsewhere.write_now(lambda connection: pushes.replay(connection, by, 1))
        await customer.arrived(2)
        await elsewhere.close()
    assert delivery._LOOK_S <= 5


async def test_those_given_up_are_sent_once_more_in_order(office: Office, journal: Journal) -> None:
    async with receiver(500) as broken:
        office.open(status_retry_s=[], cdr_retry_s=[])
        url = broken.url()
        await give_up(office, journal, status("c1", 1, url), status("c1", 2, url), cdr("c1", 3, url))
    async with receiver() as customer:
        await office.owe(status("c2", 1, customer.url()))
        port = customer.base.rpartition(":")[2]
        await office.database.write(
            lambda connection: connection.exec_driver_sql(
                f"UPDATE pushes SET url = 'http://127.0.0.1:{port}/in' WHERE state = 'dead'"
            )
        )
        assert await replay_range(office) == Replayed(count=3)
        office.open()
        await customer.arrived(4)
        await office.stop()
    again = [one for one in ids(customer) if one.startswith("c1")]
    assert again == ["c1-1", "c1-2", "c1-3"]
    assert {state for (state,) in await office.rows("state")} == {"delivered"}


async def test_a_range_goes_by_all_that_it_names(office: Office) -> None:
    url = "http://hook.example/"
    await office.owe(
        status("c1", 1, url),
        cdr("c1", 2, url),
        Push("c2", "other", "cdr", 1, url, b"{}"),
        Push("c3", APP, "cdr", 1, url, b"{}"),
    )
    ((created,), *_) = await office.rows("created_at")

    async def count(**wanted: Any) -> int:
        return (await replay_range(office, **wanted)).count

    assert await count() == 0, "none is dead"
    assert await count(state="pending") == 4
    assert await count(state="pending", app_id=APP) == 3
    assert await count(state="pending", app_id=APP, kind="cdr") == 2
    assert await count(state="pending", call_id="c1") == 2
    assert await count(state="pending", since=created + 1) == 0
    assert await count(state="pending", until=created) == 0
    assert await count(state="pending", since=created, until=created + 1) == 4
    with pytest.raises(Invalid, match="since: not before until"):
        await replay_range(office, since=5, until=5)
    entries = await noted(office)
    assert [entry["after"]["count"] for entry in entries] == [4, 3, 2, 2, 4], "nothing done, nothing noted"
    assert entries[1]["before"]["app_id"] == APP


async def test_a_long_range_goes_in_steps(office: Office) -> None:
    await office.owe(*(cdr(f"c{number}", 1, "http://hook.example/") for number in range(7)))
    counts, after = [], None
    while True:
        done = await replay_range(office, after, most=3, state="pending")
        counts.append(done.count)
        if (after := done.next) is None:
            break
    assert counts == [3, 3, 1]
    assert [entry["subject"] for entry in await noted(office)] == ["1-3", "4-6", "7"]
    with pytest.raises(Invalid, match="cursor"):
        await replay_range(office, "?")
