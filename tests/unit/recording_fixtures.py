"""Fixtures of the recording tests: a studio with an empty database, and the journal of what is logged."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from recording_studio import Journal, Studio

from huibo.recording import attempt, retention, routes, worker
from huibo.storage.database import open_engine
from huibo.storage.migrate import migrate


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as a first start makes it."""
    path = tmp_path_factory.mktemp("empty") / "recordings.sqlite3"
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture
async def set_up(
    empty_database: Path, tmp_path: Path, diary: Journal
) -> AsyncIterator[Callable[..., Studio]]:
    """Makes a studio with settings of one's own."""
    made: list[Studio] = []

    def make(**changes: Any) -> Studio:
        path = tmp_path / "recordings.sqlite3"
        if not path.exists():
            shutil.copy(empty_database, path)
        made.append(Studio(tmp_path, f"sqlite:///{path}", **changes))
        return made[-1]

    yield make
    for studio in made:
        await studio.stop()
        await studio.database.close()
        assert studio.means.helpers.pids == set()


@pytest.fixture
def studio(set_up: Callable[..., Studio]) -> Studio:
    return set_up()


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Listens to the loggers of the recording modules alone, however the others are set up."""
    kept = Journal()
    ear = structlog.wrap_logger(
        structlog.ReturnLogger(), processors=[structlog.processors.add_log_level, kept]
    )
    for module in (attempt, retention, routes, worker):
        monkeypatch.setattr(module, "log", ear)
    return kept
