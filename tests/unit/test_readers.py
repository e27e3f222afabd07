"""Threads for reads: as few as will do, the one that was busy last first, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from huibo.storage.readers import Readers
from huibo.storage.writer import Job

MOST = 3


@pytest.fixture
async def readers() -> AsyncIterator[Readers]:
    before = set(threading.enumerate())
    readers = Readers(MOST)
    yield readers
    readers.end()
    for thread in set(threading.enumerate()) - before:
        if thread.name == "huibo-reader":
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()


def ask(readers: Readers, work: Callable[[], Any]) -> asyncio.Future[Any]:
    loop = asyncio.get_running_loop()
    job = Job(lambda _: work(), loop, loop.create_future())
    readers.put(job)
    return job.future


def me() -> int:
    return threading.get_ident()


class Blocked:
    """Keeps so many threads busy."""

    def __init__(self, readers: Readers, threads: int) -> None:
        self._readers, self._threads = readers, threads
        self._meet, self._release = threading.Barrier(threads + 1), threading.Event()
        self.asked: list[asyncio.Future[int]] = []

    async def __aenter__(self) -> Blocked:
        self.asked = [ask(self._readers, self._hold) for _ in range(self._threads)]
        await asyncio.to_thread(self._meet.wait, 10)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._release.set()

    def _hold(self) -> int:
        self._meet.wait(10)
        self._release.wait(10)
        return me()


async def test_one_after_the_other_they_are_one_thread(readers: Readers) -> None:
    assert len({await _settled(readers, me) for _ in range(20)}) == 1


async def _settled(readers: Readers, work: Callable[[], Any]) -> Any:
    """Its result, once the thread takes the next job."""
    result = await ask(readers, work)
    while len(readers._idle) < len(readers._all):
        await asyncio.sleep(0)
    return result


async def test_no_more_threads_than_jobs_at_once_and_never_more_than_the_most(readers: Readers) -> None:
    async with Blocked(readers, 2) as two:
        third = await ask(readers, me)
    seen = {*await asyncio.gather(*two.asked), third}
    assert len(seen) == 3
    async with Blocked(readers, MOST) as blocked:
        waiting = [ask(readers, me) for _ in range(50)]
        done, _ = await asyncio.wait(waiting, timeout=0)
        assert not done
    assert set(await asyncio.gather(*waiting)) <= seen
    assert set(await asyncio.gather(*blocked.asked)) == seen


async def test_the_thread_that_was_busy_last_is_asked_first(readers: Readers) -> None:
    async with Blocked(readers, MOST) as blocked:
        pass
    await asyncio.gather(*blocked.asked)
    await _settled(readers, me)  # all are idle, in whatever order
    last = await _settled(readers, me)
    assert {await _settled(readers, me) for _ in range(10)} == {last}


async def test_what_waits_is_done_in_its_order(readers: Readers) -> None:
    done: list[int] = []
    async with Blocked(readers, MOST - 1) as busy:
        stop = threading.Event()
        last = ask(readers, lambda: stop.wait(10))  # the only one that will be free
        waiting = [ask(readers, lambda n=n: done.append(n)) for n in range(20)]  # type: ignore[misc]
        stop.set()
        await asyncio.gather(last, *waiting)
    assert done == list(range(20))
    await asyncio.gather(*busy.asked)


@pytest.mark.parametrize("error", [LookupError("x"), StopIteration(), SystemExit(3)])
async def test_a_thread_outlives_whatever_its_work_raises(readers: Readers, error: BaseException) -> None:
    def fail() -> None:
        raise error

    told = ask(readers, fail)
    await asyncio.wait([told])
    kind = RuntimeError if isinstance(error, StopIteration) else type(error)
    assert type(told.exception()) is kind
    assert await ask(readers, me)


async def test_what_nobody_waits_for_any_more_is_not_done(readers: Readers) -> None:
    done: list[int] = []
    async with Blocked(readers, MOST) as blocked:
        gone, kept = ask(readers, lambda: done.append(1)), ask(readers, lambda: done.append(2))
        gone.cancel()
    await kept
    assert done == [2]
    await asyncio.gather(*blocked.asked)


async def test_what_was_put_before_the_end_is_done(readers: Readers) -> None:
    async with Blocked(readers, MOST) as blocked:
        waiting = [ask(readers, me) for _ in range(10)]
        readers.end()
    assert len(await asyncio.gather(*waiting)) == 10
    await asyncio.gather(*blocked.asked)
