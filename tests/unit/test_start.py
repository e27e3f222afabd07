"""The start of a server: what it loads, what it leaves for later, and that it comes to rest."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from huibo import app as root
from huibo.api.mount import OperatorsApi
from huibo.config import load

LATER = {"alembic", "fastapi", "numpy", "pypinyin", "soundfile", "soxr", "typer"}


def test_what_no_call_waits_for_is_not_loaded_before_the_first_call() -> None:
    code = "import sys, huibo.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "huibo.flow.runner" in loaded.split()
    assert LATER & set(loaded.split()) == set()


async def test_a_server_at_rest_has_all_its_parts_and_looks_for_garbage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root, "_SETTLED_S", 0)
    own = tmp_path / "huibo.toml"
    own.write_text(
        f'database_url = "sqlite:///{tmp_path}/huibo.sqlite3"\n[prompts]\nfolder = "{tmp_path}/prompts"\n'
        f'[recording]\nfolder = "{tmp_path}/recordings"\nraw_folder = "{tmp_path}/raw"\n'
    )
    monkeypatch.setenv("HUIBO_CONFIG", str(own))
    huibo = root.Huibo(load())
    gc.disable()
    try:
        await huibo._settle()
        assert huibo.operators.load().done()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.enable()
        gc.unfreeze()
        await huibo.database.close()


class Making:
    """How an application is made: not before it may be, and by whom."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.begun = 0
        self.by: threading.Thread | None = None
        self.failure: Exception | None = None

    def __call__(self) -> ASGIApp:
        self.begun += 1
        self.by = threading.current_thread()
        self.may_end.wait(10)
        if self.failure is not None:
            raise self.failure
        return PlainTextResponse("made")


async def ask(app: ASGIApp, path: str) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def test_who_asks_the_operators_api_too_early_waits_for_it_and_nobody_else_does() -> None:
    making = Making()
    operators = OperatorsApi(making)
    app = Starlette(routes=[operators.route()])
    early = [asyncio.create_task(ask(app, path)) for path in ("/v1/apps", "/v1/a\nb")]
    impatient = asyncio.create_task(ask(app, "/v1/apps"))
    assert (await ask(app, "/v1x"))[0] == 404
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    making.may_end.set()
    assert await asyncio.gather(*early, ask(app, "/v1/")) == [(200, b"made")] * 3
    assert making.begun == 1
    assert making.by is not threading.current_thread()


async def test_whoever_awaits_it_learns_why_it_could_not_be_made() -> None:
    making = Making()
    making.failure = ImportError("no FastAPI")
    making.may_end.set()
    operators = OperatorsApi(making)
    for _ in range(2):
        with pytest.raises(ImportError, match="no FastAPI"):
            await operators.load()
    with pytest.raises(ImportError, match="no FastAPI"):
        await ask(operators, "/v1/apps")
