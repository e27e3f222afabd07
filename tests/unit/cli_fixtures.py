"""Fixtures of the command line's tests: it is run as its entry point runs it, on a database of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from cli_run import Done, Run

from huibo.cli import main


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/huibo.sqlite3"


@pytest.fixture
def run(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Runs `huibo` with arguments."""
    for name in [name for name in os.environ if name.startswith("HUIBO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HUIBO_DATABASE_URL", database_url)
    monkeypatch.setenv("HUIBO_CACHE_DIR", str(tmp_path / "cache"))

    def run(*argv: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["huibo", *argv])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return run
