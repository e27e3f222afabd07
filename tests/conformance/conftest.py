"""An open, migrated database of every kind that huibo supports, fresh for each test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from huibo.storage.database import Database
from huibo.storage.migrate import migrate
from tests.postgres import new_database, running

_fresh = (f"huibo_{number}" for number in itertools.count(1))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Gives the URL of an empty database each time it is called."""
    with running() as server:
        yield lambda: new_database(server, next(_fresh))


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


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Database]:
    """The same database, as another process has it open."""
    other = Database(database_url)
    yield other
    await other.close()
