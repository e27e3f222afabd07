"""The short form of the fault suite, on both databases at once; `./dev faults` is the long one.

Each kind of fault comes at least once over the two runs.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

import tests
from tests.faults.invariants import excuses
from tests.faults.nemesis import KINDS

BUDGET_S = 150
SEED = 20261122
HERE = {
    "sqlite": (
        *("kill -9: accepted", "kill -9: ringing", "kill -9: just ended"),
        *("kill -9: callee dialling", "upgrade", "kill -9 of Asterisk", "ARI socket silent"),
        *("database locked", "clock +1 h"),
        *("carrier stopped", "recording disk full", "receiver: 500", "receiver: hang", "events shaken"),
    ),
    "postgresql": (
        *("kill -9: dialling", "kill -9: prompting", "kill -9: talking"),
        *(
            "kill -9 of Asterisk and all",
            "control plane stopped",
            "Asterisk stopped",
            "ARI socket cut",
            "table locked",
            "backends ended",
        ),
        *("database restarted", "clock -1 h"),
        *("carrier storm", "receiver: redirect", "receiver: drip", "receiver: cut"),
    ),
}


def test_every_fault_is_done_somewhere() -> None:
    assert {kind.name for kind in KINDS} == {name for names in HERE.values() for name in names}


def test_what_is_excused_is_done() -> None:
    names = {name for value in vars(excuses).values() if isinstance(value, tuple) for name in value}
    assert {name for name in names if not any(kind.name.startswith(name) for kind in KINDS)} == set()


async def suffer(database: str) -> tuple[int, str]:
    """A whole run: its exit code, and what it printed."""
    only = [f"--only={name}" for name in HERE[database]]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults", f"--database={database}", f"--seed={SEED}"),
        *("--brisk", f"--faults={len(only)}", "--calls=40", "--linger=5", "--rate=0.8", *only),
        cwd=Path(tests.__file__).parents[1],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(BUDGET_S):
            output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(errors="replace")
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.wait()


@pytest.mark.timeout(BUDGET_S + 60)
async def test_faults_break_no_promise() -> None:
    results = await asyncio.gather(*map(suffer, HERE))
    assert [code for code, _ in results] == [0, 0], "\n".join(told for _, told in results)
