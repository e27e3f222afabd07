"""The systemd units: that systemd takes them, and that they say what a hand-over needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import huibo

DEPLOY = Path(huibo.__file__).parents[1] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))


def values(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


def test_both_are_there() -> None:
    assert [unit.name for unit in UNITS] == ["huibo-asterisk.service", "huibo.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_dies_is_started_again_for_ever(unit: Path) -> None:
    assert values(unit, "Restart") == ["always"]
    assert values(unit, "StartLimitIntervalSec") == ["0"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_neither_takes_the_other_one_with_it(unit: Path) -> None:
    for name in ("Requires", "BindsTo", "PartOf", "PropagatesStopTo"):
        assert values(unit, name) == []


def test_only_the_process_itself_is_told_to_hand_over() -> None:
    (kill,), (limit_s,) = (values(DEPLOY / "huibo.service", name) for name in ("KillMode", "TimeoutStopSec"))
    assert kill == "mixed"
    assert int(limit_s) >= 20


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_them(tmp_path: Path) -> None:
    """With a program and a user that this machine has."""
    for unit in UNITS:
        here = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(re.sub(r"^User=.*", "User=root", here, flags=re.MULTILINE))
    argv = ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
