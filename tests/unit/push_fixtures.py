"""Fixtures of the push tests: an office with an empty outbox, and the journal of what is logged."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from push_office import Journal, Office

from huibo.push import delivery, sender
from huibo.storage.database import open_engine
from huibo.storage.migrate import migrate


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as a first start makes it."""
    path = tmp_path_factory.mktemp("empty") / "outbox.sqlite3"
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture
async def office(empty: Path, tmp_path: Path, journal: Journal) -> AsyncIterator[Office]:
    shutil.copy(empty, tmp_path / "outbox.sqlite3")
    opened = Office(f"sqlite:///{tmp_path / 'outbox.sqlite3'}")
    yield opened
    await opened.stop()
    await opened.database.close()


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Listens to the loggers of the push modules alone, however the others are set up."""
    kept = Journal()
    ear = structlog.wrap_logger(
        structlog.ReturnLogger(), processors=[structlog.processors.add_log_level, kept]
    )
    for module in (delivery, sender):
        monkeypatch.setattr(module, "log", ear)
    return kept
