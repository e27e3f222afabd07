"""Child processes: kept alive, ended in good order or by force, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from huibo.stack import children
from huibo.stack.children import Child, ChildFailed, keep_alive

# Writes "up" once signals are handled, then stays until it is ended.
STAYS = "print('up', flush=True); signal.pause()"
SAYS_BYE = "signal.signal(signal.SIGTERM, lambda *_: sys.exit('bye')); " + STAYS
IGNORES_TERM = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " + STAYS

MakeChild = Callable[..., Child]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[MakeChild]:
    """Makes children that run a line of Python; all are gone afterwards."""
    made: list[Child] = []

    def make(code: str, *argv: str, patience_s: float = 10.0) -> Child:
        log = tmp_path / f"{len(made)}.log"

        async def answers() -> bool:
            return log.exists() and log.read_text().endswith("up\n")

        command = argv or (sys.executable, "-c", "import os, signal, sys; " + code)
        child = Child("the child", command, {"ONLY": "this"}, log, answers, patience_s)
        made.append(child)
        return child

    yield make
    for child in made:
        if child.alive:
            assert child.process is not None
            child.process.kill()
            await child.process.wait()


def gone(pid: int, within_s: float) -> bool:
    """Wait for the end of a process that is not a child of this one."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within_s)[0])
    finally:
        os.close(handle)


async def test_a_child_runs_with_its_own_environment_session_and_log(make: MakeChild) -> None:
    child = make(
        "print(os.environ['ONLY'], 'HOME' in os.environ, sys.stdin.read() == ''); "
        "print('complaint', file=sys.stderr); " + STAYS
    )
    assert not child.alive
    await child.start()
    await child.wait_until_it_answers()
    assert child.alive
    assert os.getsid(child.pid) == child.pid  # Ctrl-C in a terminal does not reach it
    assert sorted(child.log.read_text().splitlines()) == ["complaint", "this False True", "up"]


async def test_a_log_is_continued_by_the_next_run(make: MakeChild) -> None:
    child = make("print('up')")
    for _ in range(2):
        await child.start()
        assert child.process is not None
        await child.process.wait()
    assert child.log.read_text() == "up\nup\n"


@pytest.mark.parametrize(
    ("code", "why"), [("sys.exit('no such option')", "no such option"), ("pass", "it said nothing")]
)
async def test_a_child_that_ends_at_once_tells_why(make: MakeChild, code: str, why: str) -> None:
    child = make(code)
    await child.start()
    with pytest.raises(ChildFailed) as failed:
        await child.wait_until_it_answers()
    assert str(failed.value) == f"the child ended at once: {why} (see {child.log})"


async def test_a_child_that_does_not_answer_is_given_up(make: MakeChild) -> None:
    child = make("signal.pause()", patience_s=0.2)
    await child.start()
    with pytest.raises(ChildFailed, match=f"^the child does not answer: see {child.log}$"):
        await child.wait_until_it_answers()


async def test_a_child_is_asked_to_end_first(make: MakeChild) -> None:
    child = make(SAYS_BYE)
    await child.stop()  # never started
    await child.start()
    await child.wait_until_it_answers()
    await child.stop()
    assert not child.alive
    assert child.log.read_text() == "up\nbye\n"
    await child.stop()  # gone already


async def test_a_child_that_ignores_that_is_killed(make: MakeChild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_STOP_S", 0.2)
    child = make(IGNORES_TERM)
    await child.start()
    await child.wait_until_it_answers()
    await child.stop()
    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL


class Keeper:
    """Keeps a child alive, and what it reports."""

    def __init__(self, child: Child) -> None:
        self.deaths: asyncio.Queue[float] = asyncio.Queue()
        self.returns: asyncio.Queue[int] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def returned(child: Child) -> None:
            self.returns.put_nowait(child.pid)

        self.task = asyncio.create_task(
            keep_alive(child, lambda _child: self.deaths.put_nowait(loop.time()), returned)
        )

    async def next(self, queue: asyncio.Queue[float] | asyncio.Queue[int]) -> float:
        """The next report; fails when the keeper itself has ended."""
        waiting: Awaitable[float] = asyncio.ensure_future(queue.get())
        await asyncio.wait([waiting, self.task], timeout=10, return_when=asyncio.FIRST_COMPLETED)  # type: ignore[list-item]
        assert not self.task.done(), self.task
        return await asyncio.wait_for(waiting, 0.1)

    async def __aenter__(self) -> Keeper:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def test_a_child_that_dies_is_started_again(make: MakeChild) -> None:
    child = make(STAYS)
    await child.start()
    await child.wait_until_it_answers()
    async with Keeper(child) as keeper:
        first = child.pid
        os.kill(first, signal.SIGKILL)
        await keeper.next(keeper.deaths)
        assert await keeper.next(keeper.returns) == child.pid != first
        assert child.alive
        assert keeper.deaths.empty()


async def test_a_child_that_dies_again_and_again_is_started_ever_more_slowly(
    make: MakeChild, tmp_path: Path
) -> None:
    tries = tmp_path / "tries"
    child = make(
        f"f = open({str(tries)!r}, 'a+'); print(file=f); f.flush(); f.seek(0); "
        "len(f.readlines()) > 2 or sys.exit(1); " + STAYS
    )
    await child.start()
    async with Keeper(child) as keeper:
        first, second = [await keeper.next(keeper.deaths) for _ in range(2)]
        assert await keeper.next(keeper.returns) == child.pid
        assert 0.4 < second - first < asyncio.get_running_loop().time() - second - 0.4
    assert tries.read_text() == "\n" * 3


async def test_a_child_that_cannot_even_be_started_is_tried_again(make: MakeChild, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!{sys.executable}\nimport signal; {STAYS}\n")
    program.chmod(0o700)
    child = make("", str(program))
    await child.start()
    await child.wait_until_it_answers()
    program.rename(tmp_path / "elsewhere")
    async with Keeper(child) as keeper:
        os.kill(child.pid, signal.SIGKILL)
        for _ in range(2):
            await keeper.next(keeper.deaths)
        (tmp_path / "elsewhere").rename(program)
        assert await keeper.next(keeper.returns) == child.pid


_PARENT = """
import asyncio, sys
from pathlib import Path
from huibo.stack.children import Child

async def main():
    async def answers(): return True
    child = Child("c", (sys.executable, "-c", sys.argv[1]), {}, Path(sys.argv[2]), answers)
    await child.start()
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = "import signal; " + IGNORES_TERM
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    try:
        assert not gone(pid, 0.1)
        parent.kill()
        parent.wait()
        assert gone(pid, 5)
    finally:
        parent.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
