"""Threads for what may take its time or hang: reads, and whatever else waits for the database.

Each is started when all others are busy. Whoever was busy last gets the next job: what it needs is still in
the processor's caches. The end of the process waits for none of them.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue

from huibo.storage.writer import Job, given_back, hand_back

_Inbox = SimpleQueue[Job | None]


class Readers:
    """`put` jobs; `end` once there are no more to come. Their work is given no connection."""

    def __init__(self, most: int) -> None:
        """`most`: threads at once; further jobs wait for one of them."""
        self._most = most
        self._lock = threading.Lock()
        self._all: list[_Inbox] = []
        self._idle: list[_Inbox] = []
        self._waiting: deque[Job] = deque()

    def put(self, job: Job) -> None:
        with self._lock:
            if self._idle:
                self._idle.pop().put(job)
            elif len(self._all) < self._most:
                self._start().put(job)
            else:
                self._waiting.append(job)

    def end(self) -> None:
        """Do what was put, and stop. Waits for nothing."""
        with self._lock:
            for inbox in self._all:
                inbox.put(None)

    def _start(self) -> _Inbox:
        inbox = _Inbox()
        self._all.append(inbox)
        threading.Thread(target=self._loop, args=(inbox,), name="huibo-reader", daemon=True).start()
        return inbox

    def _loop(self, inbox: _Inbox) -> None:
        while (job := inbox.get()) is not None:
            following: Job | None = job
            while following is not None:
                _carry_out(following)
                following = self._next(inbox)

    def _next(self, inbox: _Inbox) -> Job | None:
        """A job that waits for any thread; None: this one is idle."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(inbox)
            return None


def _carry_out(job: Job) -> None:
    if job.future.done():
        return  # nobody waits any more
    try:
        job.result = job.work(None)  # type: ignore[arg-type]
    except BaseException as error:  # the thread outlives whatever a unit does
        job.error = given_back(error)
    hand_back([job])
