"""Targets that fail: what is written of them, who is disabled, and what becomes of what they are owed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select

from huibo.model import Push
from huibo.storage import push_targets
from huibo.storage.audit import list_noted
from huibo.storage.database import Database
from huibo.storage.outbox import add_pushes
from huibo.storage.push_targets import Failure, PushTarget, key_of, target_of
from huibo.storage.tables import pushes

NOW = 1_700_000_000_000
URL = "https://hook.example/in"
KEY = ("app", URL)


def failure(
    key: tuple[str, str] = KEY, at: int = NOW, since: int = NOW, disable: str | None = None
) -> Failure:
    return Failure(key, at, "HTTP 500", since, disable)


async def fail(database: Database, *failures: Failure, stale: int = 0) -> list[PushTarget]:
    return await database.write(lambda connection: push_targets.fail(connection, failures, stale))


async def known(database: Database) -> dict[tuple[str, str], PushTarget]:
    return await database.read(push_targets.load)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hook.example/in", URL),
        ("HTTPS://user:secret@Hook.Example:443/in?call=7#x", URL),
        ("https://hook.example:8443/in", "https://hook.example:8443/in"),
        ("http://hook.example", "http://hook.example/"),
        ("http://hook.example:80?x", "http://hook.example/"),
        ("http://[2001:DB8::1]:8080/a/b", "http://[2001:db8::1]:8080/a/b"),
        ("http://127.0.0.1:99999/", "unusable"),
        ("http://h/" + "a" * 3000, "http://h/" + "a" * 491),
    ],
)
def test_targets(url: str, target: str) -> None:
    assert target_of(url) == target
    assert target_of(target) == target


async def test_a_target_is_there_from_its_failure_until_it_works(database: Database) -> None:
    await fail(database, failure())
    await fail(database, failure(at=NOW + 5))
    assert await known(database) == {KEY: PushTarget("app", URL, NOW, NOW + 5, "HTTP 500")}
    await database.write(lambda connection: push_targets.forget(connection, [KEY, ("app", "http://no/")]))
    assert await known(database) == {}


async def test_one_is_disabled_once_and_noted(database: Database) -> None:
    for seen in (1, 0):  # with another process that was as quick
        assert len(await fail(database, failure(disable="HTTP 410"))) == seen
    assert await known(database) == {KEY: PushTarget("app", URL, NOW, NOW, "HTTP 500", NOW, "HTTP 410")}
    (noted,) = await database.read(list_noted)
    assert (noted.author, noted.action, noted.kind) == ("huibo", "disable", "push target")
    assert (noted.subject, noted.after["reason"]) == (f"app/{URL}", "HTTP 410")
    await database.write(lambda connection: push_targets.forget(connection, [KEY]))
    await fail(database, failure(at=NOW + 9))
    assert (await known(database))[KEY].failed_at == NOW, "neither a success nor a failure changes it"
    await database.write(lambda connection: push_targets.forget(connection, [KEY], disabled=True))
    assert await known(database) == {}


async def test_what_is_kept_is_bounded(database: Database) -> None:
    await fail(database, *(failure(("app", f"{URL}/{n}")) for n in range(250)))
    assert len(await known(database)) == 100
    assert await fail(database, failure(("app", "http://x/"), disable="HTTP 410")) == []
    assert len(await fail(database, failure(("other", URL), disable="HTTP 410"))) == 1
    await fail(database, failure(("app", URL), at=NOW + 10, since=NOW + 10), stale=NOW + 1)
    assert set(await known(database)) == {("app", URL), ("other", URL)}, "disabled ones are kept"


async def test_what_a_disabled_target_is_owed_is_given_up_piece_by_piece(database: Database) -> None:
    owed = [Push(f"c{n}", "app", "cdr", 1, f"{URL}?call={n}", b"{}") for n in range(25)]
    owed += [Push("d1", "app", "cdr", 1, "https://hook.example/other", b"{}")]
    owed += [Push("d2", "another", "cdr", 1, URL, b"{}")]
    await database.write(lambda connection: add_pushes(connection, owed, NOW + 86_400_000))

    async def bury(after: int) -> int | None:
        return await database.write(lambda connection: push_targets.bury(connection, KEY, NOW + 1, after, 10))

    assert await bury(0) is None, "it is not disabled"
    await fail(database, failure(disable="HTTP 410"))
    after: int | None = 0
    rounds = 0
    while after is not None:
        after, rounds = await bury(after), rounds + 1
    assert rounds == 3
    columns = [pushes.c.state, pushes.c.attempts, pushes.c.last_error]
    query = select(*columns, func.count()).group_by(*columns)

    def count(connection: Any) -> set[tuple[Any, ...]]:
        return {tuple(row) for row in connection.execute(query)}

    assert await database.read(count) == {
        ("dead", 0, "target disabled: HTTP 410", 25),
        ("pending", 0, None, 2),
    }


async def test_they_are_listed_in_pages(database: Database) -> None:
    keys = [(app, f"http://{name}.example/") for app in ("a", "b") for name in ("x", "y")]
    await fail(database, *(failure(key, disable="gone" if key[0] == "b" else None) for key in reversed(keys)))

    async def listed(app: str | None, disabled: bool | None, after: Any, limit: int = 10) -> list[Any]:
        work = push_targets.list_targets
        found = await database.read(lambda connection: work(connection, app, disabled, after, limit))
        return [(one.app_id, one.target) for one in found]

    for behind, after in enumerate([("", ""), *keys]):
        assert await listed(None, None, after, 2) == keys[behind : behind + 2]
    assert await listed("a", None, ("", "")) == keys[:2]
    assert await listed(None, True, ("", "")) == keys[2:]
    assert await listed(None, False, ("", "")) == keys[:2]


async def test_the_disabled_ones_among_pushes(database: Database) -> None:
    owed = [
        Push(f"c{n}", "app", "cdr", 1, url, b"{}") for n, url in enumerate([f"{URL}?a", "http://x/", URL])
    ]
    await database.write(lambda connection: add_pushes(connection, owed, NOW))
    await fail(database, failure(disable="HTTP 410"), failure(("app", "http://x/")))
    ids = await database.read(lambda connection: list(connection.scalars(select(pushes.c.id))))
    assert await database.read(lambda c: push_targets.disabled_among(c, ids)) == {KEY}
    assert await database.read(lambda c: push_targets.disabled_among(c, [])) == set()
    assert key_of("app", URL) == KEY
