"""Run folders: one per running stack, found again by `./dev cli`, cleared away when they are old.

Owns what lies under `<cache>/run`. Each folder belongs to the process that is named in its `up.pid`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from pathlib import Path

_KEPT = 10  # finished runs whose logs and recordings stay


def make(cache: Path) -> Path:
    """A new run folder for this process."""
    runs = cache / "run"
    runs.mkdir(mode=0o700, parents=True, exist_ok=True)
    _clear_away(runs)
    folder = runs / f"{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder.mkdir(mode=0o700)
    (folder / "up.pid").write_text(str(os.getpid()))
    return folder


def newest(cache: Path) -> Path | None:
    """The run folder of the stack that was started last and still runs."""
    running = [folder for folder in (cache / "run").glob("*/") if _alive(folder)]
    return max(running, key=lambda folder: _changed(folder / "up.pid"), default=None)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process has cleared it away
        return 0.0


def _alive(folder: Path) -> bool:
    try:
        os.kill(int((folder / "up.pid").read_text()), 0)
    except (ValueError, ProcessLookupError, FileNotFoundError):
        return False
    except PermissionError:
        return True
    return True


def _clear_away(runs: Path) -> None:
    # A stack that is stopped removes its up.pid, one that is killed does not.
    finished = [folder for folder in runs.glob("*/") if not _alive(folder)]
    for folder in sorted(finished, key=_changed, reverse=True)[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
