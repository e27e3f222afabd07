"""An open, migrated database of every kind that huibo supports, fresh for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from huibo.storage.database import Database
from huibo.storage.migrate import migrate


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database; there is nothing in it yet, not even a table."""
    assert request.param == "sqlite"
    return f"sqlite:///{tmp_path}/huibo.sqlite3"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database with all tables and no rows."""
    database = Database(database_url)
    migrate(database.engine)
    yield database
    await database.close()
