"""Migrations lead to the very tables that the code works with, however often and by whomever they are run."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from huibo.model import App, AppSettings, DisplayNumber, Trunk, TrunkState
from huibo.office.author import Author
from huibo.storage import catalog, migrate
from huibo.storage.accounts import pay_in
from huibo.storage.calls import find_record, unfinished
from huibo.storage.database import Database, open_engine
from huibo.storage.tables import metadata

APP = App("1400000001", "test")
RINGS_20_S = AppSettings(caller_ring_s=20)


def differences(connection: Connection) -> list[object]:
    def defaults_differ(_context: Any, found: Any, wanted: Any, *rest: Any) -> bool | None:
        return False if isinstance(wanted.type, JSON) else None  # PostgreSQL cannot compare those

    options = {"compare_type": True, "compare_server_default": defaults_differ}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


async def test_the_migrated_schema_is_that_of_the_tables(database: Database) -> None:
    assert database.read_now(differences) == []
    assert set(inspect(database.engine).get_table_names()) == {*metadata.tables, "alembic_version"}


async def test_indexes_and_keys_are_those_of_the_tables(database: Database) -> None:
    """What the comparison leaves out on some databases."""
    found = inspect(database.engine)
    for name, table in metadata.tables.items():
        indexes = {
            (index["name"], tuple(index["column_names"]), bool(index["unique"]))
            for index in found.get_indexes(name)
        }
        assert indexes == {
            (index.name, tuple(index.columns.keys()), bool(index.unique)) for index in table.indexes
        }
        assert found.get_pk_constraint(name)["constrained_columns"] == table.primary_key.columns.keys()
        foreign = {
            (key["referred_table"], key["options"].get("ondelete")) for key in found.get_foreign_keys(name)
        }
        assert foreign == {
            (key.elements[0].column.table.name, key.ondelete) for key in table.foreign_key_constraints
        }


async def test_a_missing_column_would_be_noticed(database: Database) -> None:
    """That the comparison above can fail."""
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE cdrs DROP COLUMN talk_s"))
        assert differences(connection)
        connection.rollback()


async def test_running_them_again_changes_nothing(database: Database) -> None:
    database.write_now(lambda connection: catalog.add_app(connection, APP, 1))
    for _ in range(2):
        migrate.migrate(database.engine)
    assert database.read_now(catalog.list_apps) == [APP]
    assert database.read_now(differences) == []


def test_there_is_one_line_of_migrations() -> None:
    script = ScriptDirectory.from_config(migrate.config_for(None))
    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1


async def test_a_migration_that_fails_leaves_nothing_behind(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.begin() as connection:  # in the way of the last table that the first migration makes
        connection.execute(text("CREATE TABLE pushes (id INTEGER)"))
    with pytest.raises(SQLAlchemyError):
        migrate.migrate(engine)
    assert inspect(engine).get_table_names() == ["pushes"]
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE pushes"))
    migrate.migrate(engine)
    with engine.connect() as connection:
        assert differences(connection) == []
    engine.dispose()


_MIGRATE = """
import sys
from huibo.storage.database import open_engine
from huibo.storage.migrate import migrate
engine = open_engine(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
migrate(engine)
engine.dispose()
"""


async def test_two_processes_may_migrate_at_once(database_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _MIGRATE, database_url, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    ends = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    assert [process.returncode for process in processes] == [0, 0], ends
    engine = open_engine(database_url)
    with engine.connect() as connection:
        assert differences(connection) == []
    engine.dispose()


# What a database of the first schema may hold: SQL of that time, nothing that later code would write.
_FIRST = [
    """INSERT INTO apps VALUES ('shop', 'u', 'Shop', '["127.0.0.0/8"]', NULL, 'http://c/', NULL,
       '{"caller_ring_s": 20}', 1)""",
    "INSERT INTO numbers VALUES ('02131264133', 1)",
    "INSERT INTO app_numbers VALUES ('shop', '02131264133')",
    "INSERT INTO trunks VALUES ('line', '192.0.2.1', 5080, 'alaw', 'u', 'p', 3, true, 1)",
    "INSERT INTO trunks VALUES ('spare', '192.0.2.2', 5060, 'alaw', NULL, NULL, 5, false, 1)",
    """INSERT INTO calls VALUES ('live', 'shop', 'r', '+8613800138000', '+8613900139000', '021', '022',
       'line',
       1800, 1000, 0, NULL, NULL, NULL, NULL, '', '', false, false, '{"accepted_at": 1000, "plan":
       {"dispatch_deadline_s": 30, "caller_ring_s": 60, "callee_ring_s": 60, "max_talk_s": 1800}}', NULL)""",
    """INSERT INTO calls VALUES ('over', 'shop', 'r', '+8613800138000', '+8613900139000', '021', '022',
       'line',
       1800, 1000, 0, NULL, NULL, NULL, NULL, '', '', true, false, '{"accepted_at": 1000, "ended_at": 9000,
       "plan": {"dispatch_deadline_s": 30, "caller_ring_s": 60, "callee_ring_s": 60, "max_talk_s": 1800}}',
       9000)""",
    """INSERT INTO cdrs VALUES ('over', 'shop', '+8613800138000', 1000, 1, 2, 3, 9000, 'hung_up', NULL,
       4, 5, 6, 9000, 'released', NULL, 9000, 'talked', 3, 4)""",
    """INSERT INTO recordings VALUES ('over', 'shop', 'pending', 3000, 9000, 9000, 0, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL)""",
]


async def test_what_the_first_version_stored_is_all_there_afterwards(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.begin() as connection:
        command.upgrade(migrate.config_for(connection), "0001")
        for statement in _FIRST:
            connection.execute(text(statement))
    migrate.migrate(engine)
    with engine.connect() as connection:
        app = catalog.find_app(connection, "shop")
        assert app == App("shop", "u", "Shop", ("127.0.0.0/8",), cdr_url="http://c/", settings=RINGS_20_S)
        assert catalog.numbers_of(connection, "shop") == [DisplayNumber("02131264133")]
        assert catalog.list_trunks(connection) == [
            Trunk("line", "192.0.2.1", 5080, "alaw", "u", "p", priority=3),
            Trunk("spare", "192.0.2.2", codecs="alaw", priority=5, state=TrunkState.OFF),
        ]
        ((live, state),) = unfinished(connection)
        assert (live.call_id, live.caller_trunk, live.callee_trunk) == ("live", "line", "line")
        assert state.plan.caller_ring_s == 60
        found = find_record(connection, "shop", "over")
        assert found is not None
        assert (found[1].talk_s, found[1].billed_s, found[1].charge) == (3, 4, 0)
        assert connection.scalar(text("SELECT count(*) FROM recordings")) == 1
        assert differences(connection) == []
    engine.dispose()


@pytest.mark.parametrize("table", ["ledger", "audit"])
@pytest.mark.parametrize("change", ["UPDATE {} SET author = 'x'", "DELETE FROM {}"])
async def test_what_is_written_once_is_never_changed(database: Database, table: str, change: str) -> None:
    note = Author("somebody", "cli", 1)
    database.write_now(lambda connection: pay_in(connection, "shop", 5, "somebody", "", 1))
    database.write_now(lambda connection: note.note(connection, "add", "app", "shop"))
    with pytest.raises(SQLAlchemyError, match="written once"):
        database.write_now(lambda connection: connection.execute(text(change.format(table))))
