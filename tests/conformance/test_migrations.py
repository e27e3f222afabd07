"""Migrations lead to the very tables that the code works with, however often and by whomever they are run."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from huibo.model import App
from huibo.storage import catalog, migrate
from huibo.storage.database import Database, open_engine
from huibo.storage.tables import metadata

APP = App("1400000001", "test")


def differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True}
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
