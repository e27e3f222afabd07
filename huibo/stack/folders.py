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
    return max((f for f in _all(cache / "run") if _alive(f)), key=_started, default=None)


def _all(runs: Path) -> list[Path]:
    return [folder for folder in runs.glob("*/") if (folder / "up.pid").is_file()]


def _started(folder: Path) -> float:
    return (folder / "up.pid").stat().st_mtime


def _alive(folder: Path) -> bool:
    try:
        os.kill(int((folder / "up.pid").read_text()), 0)
    except (ValueError, ProcessLookupError, FileNotFoundError):
        return False
    except PermissionError:
        return True
    return True


def _clear_away(runs: Path) -> None:
    finished = sorted((f for f in _all(runs) if not _alive(f)), key=_started, reverse=True)
    for folder in finished[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
