"""Prepared statements: what goes in and out, and what fails, is as it is with SQLAlchemy's own execution."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Executable,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError, PendingRollbackError

from huibo.model import EndReason
from huibo.storage.database import Database
from huibo.storage.prepared import Prepared, run_plain

own = MetaData()
things = Table(
    "things",
    own,
    Column("name", String(40), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("flag", Boolean),
    Column("tree", JSON),
    Column("raw", LargeBinary),
)
COLUMNS = [column.name for column in things.c]
ROW = {
    "name": "小明",
    "count": 2**40,
    "flag": True,
    "tree": {"a": [1, None, "x"], "b": True},
    "raw": b"\0\xff",
}

add = Prepared(insert(things), COLUMNS)
find = Prepared(select(things).where(things.c.name == bindparam("of_name")))
every = Prepared(select(things.c.name, things.c.flag).order_by(things.c.name))
raise_count = Prepared(
    update(things).where(things.c.count >= bindparam("least")).values(count=things.c.count + bindparam("by"))
)


@pytest.fixture
async def database(database: Database) -> Database:
    await database.write(own.create_all)
    return database


def row(name: str, **more: Any) -> dict[str, Any]:
    return dict.fromkeys(COLUMNS) | {"name": name, "count": 0} | more


@pytest.mark.parametrize(
    "given",
    [
        ROW,
        row("nothing"),
        row("false", flag=False, tree=False, raw=b""),
        row("zero", tree=0),
        row("list", tree=[]),
        row(EndReason.BUSY.value, tree="text"),
    ],
    ids=lambda given: str(given["name"]),
)
def test_what_is_written_is_read_as_it_was_by_either_way(database: Database, given: dict[str, Any]) -> None:
    expected = tuple(given.values())

    def unit(connection: Connection) -> None:
        assert add.run(connection, given) == 1
        plain = connection.execute(select(things)).one()
        assert tuple(plain) == expected
        connection.execute(things.delete())
        connection.execute(insert(things), given)
        found = find.first(connection, {"of_name": given["name"]})
        assert found == expected
        assert [type(value) for value in found] == [type(value) for value in expected]

    database.write_now(unit)


def test_many_rows_and_how_many_were_changed(database: Database) -> None:
    def unit(connection: Connection) -> None:
        for rows in ([], [row("a", flag=True)], [row("c"), row("b", flag=False, count=5), row("d", count=9)]):
            add.run_many(connection, rows)
        assert every.all(connection, {}) == [("a", True), ("b", False), ("c", None), ("d", None)]
        assert raise_count.run(connection, {"least": 5, "by": 2}) == 2
        assert raise_count.run(connection, {"least": 50, "by": 2}) == 0
        assert raise_count.run(connection, {"least": 0, "by": 1}) == 4
        assert find.first(connection, {"of_name": "d"}) == ("d", 12, None, None, None)
        assert find.first(connection, {"of_name": "nobody"}) is None
        assert find.all(connection, {"of_name": "nobody"}) == []

    database.write_now(unit)


def test_what_a_statement_says_itself_need_not_be_given(database: Database) -> None:
    statement = Prepared(
        select(literal("word"), func.coalesce(bindparam("given", type_=BigInteger), 7)).limit(1).offset(0)
    )
    assert database.read_now(lambda c: statement.first(c, {"given": None})) == ("word", 7)
    assert database.read_now(lambda c: statement.all(c, {"given": 3})) == [("word", 3)]


def test_what_databases_say_differently_is_made_for_each(database: Database) -> None:
    def make(dialect: Dialect) -> Executable:
        return select(literal(dialect.name))

    statement = Prepared(make)
    for _ in range(2):
        assert database.read_now(lambda c: statement.first(c, {})) == (database.engine.dialect.name,)


def test_a_list_in_a_statement_is_refused(database: Database) -> None:
    statement = Prepared(select(things).where(things.c.name.in_(bindparam("names", expanding=True))))
    with pytest.raises(AssertionError, match="a list in it"):
        database.read_now(lambda c: statement.all(c, {"names": ["a"]}))


def test_a_transaction_is_begun_where_there_is_none(database: Database) -> None:
    """So that all that a reader sees is of one moment."""
    database.write_now(lambda c: add.run(c, row("before")))

    def look(connection: Connection) -> None:
        assert not connection.in_transaction()
        assert every.all(connection, {}) == [("before", None)]
        assert connection.in_transaction()
        database.write_now(lambda c: add.run(c, row("after")))
        assert every.all(connection, {}) == [("before", None)]

    database.read_now(look)
    assert len(database.read_now(lambda c: every.all(c, {}))) == 2


def test_what_is_not_committed_is_not_kept(database: Database) -> None:
    def half(connection: Connection) -> None:
        add.run(connection, row("gone"))
        raise LookupError

    with database.engine.connect() as connection:
        add.run(connection, row("gone"))
    with pytest.raises(LookupError):
        database.write_now(half)
    assert database.read_now(lambda c: every.all(c, {})) == []


@pytest.fixture
def number(database: Database) -> str:
    number = "13800138000"
    database.write_now(lambda c: add.run(c, row(number)))
    return number


@pytest.mark.parametrize(
    "again",
    [
        lambda c, number: add.run(c, row(number)),
        lambda c, number: add.run_many(c, [row("other"), row(number)]),
        lambda c, number: add.run_many(c, [row(number)]),
    ],
)
def test_an_error_is_sqlalchemys_and_does_not_tell_what_is_in_a_row(
    database: Database, number: str, again: Callable[[Connection, str], None]
) -> None:
    with pytest.raises(IntegrityError) as plain:
        database.write_now(lambda c: c.execute(insert(things), row(number)))
    with pytest.raises(IntegrityError) as failed:
        database.write_now(lambda c: again(c, number))
    assert number not in str(failed.value)
    assert number not in str(failed.value.orig)
    assert str(failed.value).partition("[SQL:")[0] == str(plain.value).partition("[SQL:")[0]
    assert not failed.value.connection_invalidated
    if database.shared:
        assert getattr(failed.value.orig, "sqlstate", None) == "23505"
    assert isinstance(failed.value.__cause__, database.engine.dialect.loaded_dbapi.IntegrityError)


def test_a_transaction_goes_on_after_a_savepoint_that_failed(database: Database, number: str) -> None:
    def unit(connection: Connection) -> None:
        add.run(connection, row("first"))
        with pytest.raises(IntegrityError), connection.begin_nested():
            add.run(connection, row(number))
        add.run(connection, row("last"))

    database.write_now(unit)
    assert len(database.read_now(lambda c: every.all(c, {}))) == 3


@pytest.fixture
def quiet() -> Iterator[None]:
    """The pool reports a connection that was lost."""
    pool = logging.getLogger("sqlalchemy.pool")
    level, pool.level = pool.level, logging.CRITICAL
    yield
    pool.level = level


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("used_before", [True, False], ids=["under way", "begun"])
def test_a_connection_that_was_lost_is_not_used_again(database: Database, used_before: bool) -> None:
    if not database.shared:
        pytest.skip("there is no connection to be lost")
    pid = text("SELECT pg_backend_pid()")
    end = text("SELECT pg_terminate_backend(:pid, 5000)")
    with database.engine.connect() as connection:
        before = connection.scalar(pid)
        if not used_before:
            connection.commit()
        assert database.read_now(lambda c: c.scalar(end, {"pid": before}))
        with pytest.raises(OperationalError) as lost:
            every.all(connection, {})
        assert lost.value.connection_invalidated
        assert connection.invalidated
        with pytest.raises(PendingRollbackError):
            every.all(connection, {})
        connection.rollback()
        assert every.all(connection, {}) == []
        assert connection.scalar(pid) != before


def test_a_lock_that_is_not_to_be_had_is_told_with_its_code(database: Database) -> None:
    """Also by the statement that begins a transaction, which has no values."""
    database.write_now(lambda c: add.run(c, row("locked")))
    held, release = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        raise_count.run(connection, {"least": 0, "by": 1})
        held.set()
        release.wait(10)

    def ask(connection: Connection) -> None:
        if database.shared:
            connection.begin()
            run_plain(connection, "SET LOCAL lock_timeout = '50ms'")
            raise_count.run(connection, {"least": 0, "by": 1})
        else:
            connection.connection.driver_connection.execute("PRAGMA busy_timeout = 50")  # type: ignore[union-attr]
            connection.begin()

    holder = threading.Thread(target=database.write_now, args=(hold,))
    holder.start()
    try:
        assert held.wait(10)
        with database.engine.connect() as connection, pytest.raises(OperationalError) as failed:
            ask(connection)
        if database.shared:
            assert getattr(failed.value.orig, "sqlstate", None) == "55P03"
        else:
            assert getattr(failed.value.orig, "sqlite_errorname", None) == "SQLITE_BUSY"
    finally:
        release.set()
        holder.join()


def test_what_sqlite_finds_wrong_only_while_rows_are_taken_is_an_error_of_the_same_kind(
    database: Database,
) -> None:
    if database.shared:
        pytest.skip("PostgreSQL looks for all rows at once")
    database.write_now(lambda c: add.run_many(c, [row("a", tree={}), row("b")]))
    database.write_now(lambda c: c.execute(text("UPDATE things SET tree = '{' WHERE name = 'b'")))
    broken = Prepared(select(func.json_extract(things.c.tree, "$")).order_by(things.c.name))
    with pytest.raises(OperationalError, match="malformed JSON"):
        database.read_now(lambda c: broken.all(c, {}))
