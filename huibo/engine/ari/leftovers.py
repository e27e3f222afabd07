"""What should be gone from Asterisk and is not known to be: asked for again until it is.

Knows channels and bridges by their paths only. Never looks for anything: what is to go, others say.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from huibo.engine.ari.client import GONE, Answer, AriClient, AriError
from huibo.errors import EngineError

log = structlog.get_logger()

_AGAIN_S = 5.0
_LAST_WORDS_S = 15.0  # what has been asked to go says so long before this
_AT_ONCE = 20  # of many strays


class Leftovers:
    """`run` it while connected; what it knows outlives the connection."""

    def __init__(self, client: AriClient) -> None:
        self._client = client
        self._due: dict[str, float] = {}  # loop time, by path
        self._woken = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    async def end(self, path: str) -> Answer:
        """Ask for the end of something now, and again until it is gone. The answer need not be awaited.

        Raises `EngineError` when nothing could be asked for now.
        """
        self._in(path, _AGAIN_S)
        answer = await self._client.send("DELETE", path)
        answer.add_done_callback(partial(self._answered, path))
        return answer

    def add(self, path: str) -> None:
        """Have something ended soon, by `run`."""
        self._in(path, 0)
        self._woken.set()

    def forget(self, path: str) -> None:
        """It is gone, or its name means something new."""
        self._due.pop(path, None)

    def take(self, event: dict[str, Any]) -> None:
        """The end of a channel."""
        self.forget(f"channels/{event['channel']['id']}")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._woken.clear()
            now = asyncio.get_running_loop().time()
            due = [path for path, at in self._due.items() if at <= now]
            for first in range(0, len(due), _AT_ONCE):
                await asyncio.gather(*map(self._ask, due[first : first + _AT_ONCE]))
            try:
                async with asyncio.timeout(1.0 if self._due else None):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _ask(self, path: str) -> None:
        if path not in self._due:
            return
        with suppress(EngineError):
            await (await self.end(path))
            log.warning("stray ended", what=path)

    def _answered(self, path: str, answer: Answer) -> None:
        try:
            answer.result()
        except EngineError as error:
            if isinstance(error, AriError) and error.status == GONE:
                self.forget(path)
            else:
                log.warning("not ended, trying again", what=path, reason=str(error))
            return
        if path.startswith("bridges/"):
            self.forget(path)  # it goes at once
        elif path in self._due:
            self._in(path, _LAST_WORDS_S)

    def _in(self, path: str, seconds: float) -> None:
        if not self._due:
            self._woken.set()
        self._due[path] = asyncio.get_running_loop().time() + seconds
