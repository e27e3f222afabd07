"""An open, migrated database of every kind that huibo supports, fresh for each test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from huibo.storage.database import Database
from huibo.storage.migrate import migrate
from tests.postgres import running

_fresh = (f"huibo_{number}" for number in itertools.count(1))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Gives the URL of an empty database each time it is called."""
    with running() as server:

        def make() -> str:
            name = next(_fresh)
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            url = make_url(server.replace("postgresql://", "postgresql+psycopg://", 1))
            return url.set(database=name).render_as_string(hide_password=False)

        yield make


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database; there is nothing in it yet, not even a table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/huibo.sqlite3"
    make: Callable[[], str] = request.getfixturevalue("postgres")
    return make()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database with all tables and no rows."""
    database = Database(database_url)
    migrate(database.engine)
    yield database
    await database.close()
