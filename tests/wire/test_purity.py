"""The mapping between wire and domain does no I/O: what it imports could not do any."""

from __future__ import annotations

import subprocess
import sys

import pytest

IO = {
    "asyncio",
    "socket",
    "ssl",
    "select",
    "sqlalchemy",
    "aiohttp",
    "starlette",
    "fastapi",
    "uvicorn",
    "structlog",
}


@pytest.mark.parametrize(
    "module",
    [
        *("huibo.wire.body", "huibo.wire.fields", "huibo.wire.tencent", "huibo.wire.pushes"),
        *("huibo.numbers", "huibo.admission.access"),
    ],
)
def test_a_pure_module_imports_no_io(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert module in loaded.split()
    assert not IO & set(loaded.split())
