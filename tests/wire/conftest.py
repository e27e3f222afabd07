"""A fresh front desk for each test."""

from __future__ import annotations

import pytest
from frontdesk import Desk


@pytest.fixture
def desk() -> Desk:
    return Desk()
