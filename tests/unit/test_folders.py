"""Run folders: the newest one that runs is found, old ones are cleared away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from huibo.stack import folders

KEPT = 10


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The pid of another process that runs."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate(b"\n")


@pytest.fixture(scope="module")
def dead() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def run_folder(cache: Path, name: str, pid: int | str | None, at: int) -> Path:
    """A run folder as another process left it; without a pid when it was stopped in good order."""
    folder = cache / "run" / name
    folder.mkdir(parents=True)
    (folder / "huibo.log").write_text("x")
    if pid is not None:
        (folder / "up.pid").write_text(str(pid))
        os.utime(folder / "up.pid", (at, at))
    os.utime(folder, (at, at))
    return folder


def test_a_new_folder_is_this_processes_own_and_private(tmp_path: Path) -> None:
    folder = folders.make(tmp_path / "cache")
    assert folder.parent == tmp_path / "cache/run"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "up.pid").read_text() == str(os.getpid())
    assert folders.make(tmp_path / "cache") != folder


def test_the_newest_is_the_last_started_of_those_that_run(tmp_path: Path, sleeper: int, dead: int) -> None:
    assert folders.newest(tmp_path) is None
    run_folder(tmp_path, "a-dead", dead, 400)
    run_folder(tmp_path, "b-stopped", None, 500)
    run_folder(tmp_path, "c-being-written", "", 600)
    run_folder(tmp_path, "d-nonsense", "x", 600)
    assert folders.newest(tmp_path) is None
    older = run_folder(tmp_path, "e", sleeper, 200)
    assert folders.newest(tmp_path) == older
    newer = run_folder(tmp_path, "b", sleeper, 300)
    run_folder(tmp_path, "f", sleeper, 100)
    (tmp_path / "run/file").write_text("")
    assert folders.newest(tmp_path) == newer
    mine = folders.make(tmp_path)
    assert folders.newest(tmp_path) == mine


def test_a_folder_that_is_entered_later_is_no_newer(tmp_path: Path, sleeper: int) -> None:
    old, new = run_folder(tmp_path, "old", sleeper, 100), run_folder(tmp_path, "new", sleeper, 200)
    (old / "core").write_text("")
    assert folders.newest(tmp_path) == new


@pytest.mark.parametrize("killed", [True, False])
def test_finished_runs_are_cleared_away_but_for_the_last(
    tmp_path: Path, sleeper: int, dead: int, killed: bool
) -> None:
    running = run_folder(tmp_path, "running", sleeper, 1)
    finished = [
        run_folder(tmp_path, f"{number:02}", dead if killed else None, 100 + number)
        for number in range(KEPT + 3)
    ]
    mine = folders.make(tmp_path)
    left = set((tmp_path / "run").iterdir())
    assert left == {running, mine, *finished[3:]}
    assert (finished[3] / "huibo.log").exists()


def test_a_folder_that_another_process_clears_away_meanwhile_is_no_obstacle(
    tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(tmp_path, "gone", dead, 1)
    alive = folders._alive
    monkeypatch.setattr(folders, "_alive", lambda one: (alive(one), one == folder and _remove(folder))[0])
    folders.make(tmp_path)
    assert not folder.exists()


def _remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
