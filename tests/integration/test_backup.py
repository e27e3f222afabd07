"""Backup of a live system and its restoration, on SQLite and on PostgreSQL, and what is refused."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text

import huibo.storage.backup as storage_backup
from huibo import config
from huibo.model import App
from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneMoment
from huibo.stack.stack import Stack
from huibo.storage import accounts, backup_postgres, catalog
from huibo.storage.accounts import Account, EntryKind
from huibo.storage.backup import backup, restore
from huibo.storage.backup_postgres import BackupFailed
from huibo.storage.database import Database, open_engine
from huibo.storage.migrate import migrate
from huibo.storage.tenure import Taken, Tenure
from tests.integration.cli import huibo
from tests.integration.conftest import StartStack
from tests.integration.customer import Customer, Placed
from tests.integration.test_money import till
from tests.postgres import running, tools


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running() as server:
        yield server.replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(params=["sqlite", "postgresql"])
def make_url_of(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Gives the URL of a database of this name, in which there is nothing."""
    if request.param == "sqlite":
        return lambda name: f"sqlite:///{tmp_path}/{name}.sqlite3"
    server = request.getfixturevalue("postgres")
    monkeypatch.setenv("PATH", f"{tools(_plain(server))}:{os.environ['PATH']}")

    def make(name: str) -> str:
        return _new_database(server, f"{name}_{tmp_path.name.lower().replace('-', '_')}")

    return make


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def fill(url: str, *apps: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    with engine.begin() as connection:
        for app in apps:
            catalog.add_app(connection, App(app, "x"), 1)
    engine.dispose()


def apps(url: str) -> list[str]:
    engine = open_engine(url)
    with engine.connect() as connection:
        found = [app.app_id for app in catalog.list_apps(connection)]
    engine.dispose()
    return sorted(found)


def test_a_database_comes_back_as_it_was(make_url_of: Callable[[str], str], tmp_path: Path) -> None:
    first, second, file = make_url_of("first"), make_url_of("second"), tmp_path / "copy"
    fill(first, "a", "b")
    backup(first, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    fill(first, "later")
    assert restore(second, file, force=False) is None
    assert apps(second) == ["a", "b"]
    with pytest.raises(BackupFailed, match="--force"):
        restore(first, file, force=False)
    assert apps(first) == ["a", "b", "later"]
    kept = restore(first, file, force=True)
    assert apps(first) == ["a", "b"]
    assert kept is not None
    third = make_url_of("third")
    restore(third, kept, force=False)  # what was replaced is whole itself
    assert apps(third) == ["a", "b", "later"]
    assert not list(tmp_path.glob("*.partial"))


def test_a_database_in_use_is_left_alone(make_url_of: Callable[[str], str], tmp_path: Path) -> None:
    url, file = make_url_of("used"), tmp_path / "copy"
    fill(url, "a")
    backup(url, file)
    user = open_engine(url)
    with user.connect() as connection:
        connection.exec_driver_sql("SELECT 1 FROM apps")
    with pytest.raises(BackupFailed, match="stop huibo first"):
        restore(url, file, force=True)
    user.dispose()
    restore(url, file, force=True)


def test_an_empty_database_may_be_replaced(make_url_of: Callable[[str], str], tmp_path: Path) -> None:
    url, file = make_url_of("full"), tmp_path / "copy"
    fill(url, "a")
    backup(url, file)
    fresh = make_url_of("fresh")
    fill(fresh)
    restore(fresh, file, force=False)
    assert apps(fresh) == ["a"]


def test_what_is_no_whole_backup_changes_nothing(make_url_of: Callable[[str], str], tmp_path: Path) -> None:
    url, file = make_url_of("good"), tmp_path / "copy"
    fill(url, *(f"app-{number}" for number in range(500)))
    backup(url, file)
    with pytest.raises(BackupFailed, match="exists: name a new file"):
        backup(url, file)
    whole, broken = file.read_bytes(), tmp_path / "broken"
    for content in (b"", b"nonsense", whole[: len(whole) // 2], whole[:100], whole[:16]):
        broken.write_bytes(content)
        with pytest.raises(BackupFailed) as failed:
            restore(url, broken, force=True)
        assert "Traceback" not in str(failed.value)
    assert len(apps(url)) == 500
    with pytest.raises(BackupFailed, match="No such file"):
        restore(url, tmp_path / "nothing", force=True)
    with pytest.raises(BackupFailed, match="no folder"):
        backup(url, tmp_path / "nowhere" / "copy")


def test_a_backup_of_a_newer_huibo_is_refused(make_url_of: Callable[[str], str], tmp_path: Path) -> None:
    url, file = make_url_of("newer"), tmp_path / "copy"
    fill(url, "a")
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    backup(url, file)
    with pytest.raises(BackupFailed, match="newer huibo"):
        restore(url, file, force=True)


def test_the_wrong_kind_and_the_wrong_place(tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(b"PGDMP" + b"x" * 50)
    url = f"sqlite:///{tmp_path}/x.sqlite3"
    with pytest.raises(BackupFailed, match="other kind of database"):
        restore(url, tmp_path / "dump", force=False)
    with pytest.raises(BackupFailed, match="does not exist"):
        backup(url, tmp_path / "copy")
    sqlite3.connect(tmp_path / "x.sqlite3").execute("CREATE TABLE apps (x)").connection.close()
    with pytest.raises(BackupFailed, match="holds no huibo"):
        backup(url, tmp_path / "copy")


def test_a_database_that_is_broken_can_be_replaced(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path}/x.sqlite3", tmp_path / "copy"
    fill(url, "a")
    backup(url, file)
    (tmp_path / "x.sqlite3").write_bytes(b"broken")
    with pytest.raises(BackupFailed, match="--force"):
        restore(url, file, force=False)
    kept = restore(url, file, force=True)
    assert kept is not None
    assert kept.read_bytes() == b"broken"
    assert apps(url) == ["a"]


def test_without_the_tools_of_postgresql_it_says_what_to_install(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(postgres, "a")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupFailed, match="apt install postgresql-client"):
        backup(postgres, tmp_path / "copy")


async def _calls(customer: Customer, first: int, count: int) -> list[str]:
    placed = [await customer.call(f"138{first + n:06}00", f"139{first + n:06}01") for n in range(count)]
    await asyncio.gather(*(call.cdr() for call in placed))
    return [call.call_id for call in placed]


async def test_a_backup_is_made_while_calls_go_on_and_a_stack_runs_from_it(own: StartStack) -> None:
    stack, customer = await own()
    folder = stack.folder
    ended = await _calls(customer, 100, 2)
    live = [await customer.call(f"1380000{n}00", f"1390000{n}02") for n in range(30, 34)]
    await asyncio.gather(*(call.until_told("dst answered") for call in live))
    going_on = asyncio.create_task(_calls(customer, 200, 6))
    for number in range(5):
        done = await huibo(stack, "backup", str(folder / f"copy-{number}"))
        assert done.code == 0, done.err
    refused = await huibo(stack, "restore", str(folder / "copy-4"), "--force")
    assert (refused.code, "stop huibo first" in refused.err) == (1, True)
    await going_on
    for call in live:  # nobody's conversation was disturbed
        assert (await call.cdr())["callEndStatus"] == "1"
    await stack.control_child.stop()
    refused = await huibo(stack, "restore", str(folder / "copy-4"))
    assert (refused.code, "--force" in refused.err) == (1, True)
    done = await huibo(stack, "restore", str(folder / "copy-4"), "--force")
    assert done.code == 0, done.err
    assert len(list(folder.glob("huibo.sqlite3.replaced-*"))) == 1
    await stack.control_child.start()
    await customer.until_ready()
    for call_id in ended:
        assert await _known(customer, call_id) == "0"
    for call in live:  # unfinished in the copy: closed at the start, and nobody is rung again
        async with asyncio.timeout(30):
            while await _known(customer, call.call_id) != "0":
                await asyncio.sleep(0.1)
    await _calls(customer, 300, 1)
    _whole(stack, {*ended, *(call.call_id for call in live)})


async def test_postgresql_is_backed_up_while_calls_go_on_and_another_takes_its_place(
    own: StartStack, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tools(_plain(postgres))}:{os.environ['PATH']}")
    first, second = (_new_database(postgres, name) for name in ("live", "fresh"))
    stack, customer = await own({"": {"database_url": first}})
    copy = tmp_path / "copy"
    async with till(stack, "prepaid", paid=10**6) as money:

        async def talk(numbers: list[int], dst: str) -> list[Placed]:
            calls = [
                await customer.call(f"13800{n:04}00", f"13900{n:04}{dst}", appId="prepaid") for n in numbers
            ]
            await asyncio.gather(*(call.until_told("dst answered") for call in calls))
            return calls

        ended, live = await asyncio.gather(talk([1, 2], "01"), talk([3, 4], "00"))
        going_on = asyncio.create_task(talk([5, 6, 7], "01"))
        await asyncio.gather(*(call.cdr() for call in ended))
        done = await huibo(stack, "backup", str(copy))
        assert done.code == 0, done.err
        await asyncio.gather(*(call.cdr() for call in await going_on))
        assert money.account.held > 0
        refused = await huibo(stack, "restore", str(copy), "--force")
        assert (refused.code, "stop huibo first" in refused.err) == (1, True)
    await stack.control_child.stop()
    done = await huibo(stack, "restore", str(copy), HUIBO_DATABASE_URL=second)
    assert done.code == 0, done.err
    stack.control_child.env = dict(stack.control_child.env) | {"HUIBO_DATABASE_URL": second}
    await stack.control_child.start()
    await customer.until_ready()
    database = Database(second)
    closed = "SELECT count(*) FROM calls WHERE ended_at IS NULL"
    for call in live:  # their conversations go on, and are this one's now
        body = {"appId": "prepaid", "callId": call.call_id}
        answer = await customer.post(body, "/201511v3/callCancel?id=demo")
        assert answer["errorCode"] == "0"
    async with asyncio.timeout(30):  # what is live in the copy and nowhere else is closed
        while await database.read(lambda connection: connection.scalar(text(closed))):
            await asyncio.sleep(0.1)
    account, entries = database.read_now(
        lambda connection: (
            accounts.find_account(connection, "prepaid"),
            accounts.list_entries(connection, "prepaid"),
        )
    )
    charges = [entry for entry in entries if entry.kind is EntryKind.CHARGE]
    assert account == Account("prepaid", 10**6 - sum(entry.amount for entry in charges), 0)
    assert {call.call_id for call in ended} <= {entry.call_id for entry in charges}
    for call in (*ended, *live):
        body = {"appId": "prepaid", "callId": call.call_id}
        found = await customer.post(body, "/201511v3/getCdr?id=demo")
        assert found["errorCode"] == "0"
    rang = Counter(e.number for e in journal.read(stack.carrier.calls_log) if e.event is PhoneMoment.INVITED)
    assert set(rang.values()) == {1}  # nobody was rung again
    await database.close()


async def test_nothing_starts_on_a_database_that_is_being_restored(
    make_url_of: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, file = make_url_of("busy"), tmp_path / "copy"
    fill(url, "a")
    backup(url, file)
    engine = open_engine(url)
    starts: list[Future[None]] = []
    loop = asyncio.get_running_loop()
    on_sqlite = engine.dialect.name == "sqlite"
    step = (storage_backup, "_copy_sqlite") if on_sqlite else (backup_postgres, "load")
    really = getattr(*step)

    def load(*arguments: object) -> None:
        """A huibo comes just now."""
        if on_sqlite:
            with pytest.raises(Taken):
                Tenure(engine, "main").take(0)
        else:
            starts.append(asyncio.run_coroutine_threadsafe(asyncio.to_thread(migrate, engine), loop))
            with pytest.raises(TimeoutError):
                starts[0].result(0.5)
        really(*arguments)

    monkeypatch.setattr(*step, load)
    await asyncio.to_thread(restore, url, file, force=True)
    for start in starts:
        await asyncio.wrap_future(start)
    assert apps(url) == ["a"]
    huibo_runs = Tenure(engine, "main")
    huibo_runs.take(0)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    engine.dispose()  # it is not looking at anything at this moment
    with pytest.raises(BackupFailed, match="in use"):
        await asyncio.to_thread(restore, url, file, force=True)
    huibo_runs.end()
    engine.dispose()


def _new_database(server: str, name: str) -> str:
    with psycopg.connect(_plain(server), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return make_url(server).set(database=name).render_as_string(hide_password=False)


async def _known(customer: Customer, call_id: str) -> str:
    asked = {"appId": "demo", "callId": call_id}
    return (await customer.post(asked, "/201511v3/getCdr?id=demo"))["errorCode"]


def _whole(stack: Stack, expected: set[str]) -> None:
    engine = open_engine(config.load(stack.settings_file).database_url)
    with engine.connect() as connection:
        found = set(connection.exec_driver_sql("SELECT call_id FROM calls").scalars())
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    engine.dispose()
    assert expected <= found
