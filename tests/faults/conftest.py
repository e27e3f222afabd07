"""A true world, made once, and a copy of it for each test that spoils it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.spoiling import Spoilt
from tests.faults.true_world import TrueWorld


@pytest.fixture(scope="session")
def true_world(tmp_path_factory: pytest.TempPathFactory) -> TrueWorld:
    return TrueWorld(tmp_path_factory.mktemp("true"))


@pytest.fixture
def world(true_world: TrueWorld, tmp_path: Path) -> Spoilt:
    return Spoilt(true_world, tmp_path)
