"""One huibo process for all tests here; each works with names of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from tests.api.service import Service, serving


@pytest.fixture(scope="session")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """The process, and an admin at it."""
    async with serving(tmp_path_factory.mktemp("api")) as service:
        yield service


_count = itertools.count(1)


@pytest.fixture
def named() -> Callable[[str], str]:
    """Makes names that no other test uses."""
    return lambda prefix: f"{prefix}{next(_count)}"
