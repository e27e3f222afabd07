"""One attempt to deliver one push over HTTP, and what counts as delivered (docs/wire.md, "Delivery").

Knows neither the schedule nor the outbox. Never follows a redirect, keeps no cookie, takes no proxy from the
environment, and never puts a body, a URL or a secret into an error text.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Any

import aiohttp
import structlog
from yarl import URL

from huibo import __version__
from huibo.clock import Clock
from huibo.config import PushSettings
from huibo.push.guard import Guard
from huibo.push.resolver import ThreadResolver
from huibo.push.schedule import retry_after_s
from huibo.push.signing import headers, id_of
from huibo.storage.outbox import OwedPush

log = structlog.get_logger()

_HEADERS = {"Content-Type": "application/json;charset=utf-8", "User-Agent": f"huibo/{__version__}"}
_REPLY_BYTES = 64 * 1024
_REPLY_S = 1.0  # the answer counts, its body does not: it is only read to use the connection again
_KEEP_S = 1.5  # servers close idle connections after 2 s and more: do not send into one being closed
_ERROR_CHARS = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt. `error` is None for a delivery, else short text for people.

    `final`: no further attempt can help. `gone`: nor can other pushes to this target. `answered`: in time and
    in HTTP. `retry_after_s`: what the receiver asks to wait.
    """

    error: str | None = None
    final: bool = False
    gone: bool = False
    answered: bool = False
    retry_after_s: float = 0


@dataclass(slots=True)
class _Tried:
    """A request. `fresh`: a connection was opened for it, it was not sent over one that had been idle."""

    fresh: bool = False


_tried: ContextVar[_Tried | None] = ContextVar("tried", default=None)


class Sender:
    """The push client: `async with` it. Raises `ValueError` for settings that name no networks."""

    def __init__(self, settings: PushSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._guard = Guard(settings.allowed_networks)
        self._session: aiohttp.ClientSession
        self._once: aiohttp.ClientSession  # with a connection of its own for each request

    async def __aenter__(self) -> Sender:
        self._session, self._once = self._client(keepalive_timeout=_KEEP_S), self._client(force_close=True)
        return self

    def _client(self, **connections: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # whoever calls `send` sets the bounds
            resolver=ThreadResolver(),
            socket_factory=self._open_socket,
            **connections,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding",),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(
                total=self._settings.timeout_s, connect=self._settings.connect_timeout_s
            ),
        )

    def _open_socket(self, target: tuple[Any, ...]) -> socket.socket:
        if (tried := _tried.get()) is not None:
            tried.fresh = True
        return self._guard.open_socket(target)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._once.close()

    async def send(self, push: OwedPush, secrets: Sequence[str] = ()) -> Outcome:
        """Make one attempt, signed with all `secrets`. Raises nothing but `CancelledError`."""
        if (url := _usable(push.url)) is None:
            return Outcome("the URL is not usable", final=True)
        try:
            return await self._post(url, push, secrets)
        except (aiohttp.ClientError, TimeoutError) as error:
            return Outcome(_clean(self._describe(error)))
        except Exception as error:
            log.exception("push attempt failed in an unforeseen way", call=push.call_id)
            return Outcome(f"unforeseen: {type(error).__name__}")

    async def _post(self, url: URL, push: OwedPush, secrets: Sequence[str]) -> Outcome:
        named = headers(id_of(push.call_id, push.seq), push.body, secrets, self._clock.now_ms() // 1000)
        began, tried = monotonic(), _Tried()
        _tried.set(tried)
        try:
            return await self._ask(self._session, url, push.body, named, self._session.timeout)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if tried.fresh or not _was_closed(error):
                raise
        left_s = max(0.001, self._settings.timeout_s - (monotonic() - began))
        left = aiohttp.ClientTimeout(total=left_s, connect=min(left_s, self._settings.connect_timeout_s))
        return await self._ask(self._once, url, push.body, named, left)

    async def _ask(
        self,
        client: aiohttp.ClientSession,
        url: URL,
        body: bytes,
        named: dict[str, str],
        limits: aiohttp.ClientTimeout,
    ) -> Outcome:
        async with client.post(
            url, data=body, headers=named, allow_redirects=False, timeout=limits
        ) as answer:
            outcome = self._judge(answer)
            await _read_reply(answer)
            return outcome

    def _judge(self, answer: aiohttp.ClientResponse) -> Outcome:
        status = answer.status
        if 200 <= status < 300:
            return Outcome(answered=True)
        asked_s = 0.0
        if status in (429, 503):
            asked_s = retry_after_s(answer.headers.get("Retry-After"), self._clock.now_ms() / 1000)
        note = " (redirects are not followed)" if 300 <= status < 400 else ""
        gone = status == 410
        return Outcome(f"HTTP {status}{note}", final=gone, gone=gone, answered=True, retry_after_s=asked_s)

    def _describe(self, error: Exception) -> str:
        match error:
            case aiohttp.ConnectionTimeoutError():
                return f"no connection within {self._settings.connect_timeout_s:g} s"
            case TimeoutError() if not isinstance(error, aiohttp.ClientError):
                return f"timed out after {self._settings.timeout_s:g} s"
            case aiohttp.ClientConnectorDNSError():
                return f"the name {error.host} does not resolve"
            case aiohttp.ClientConnectorCertificateError():
                return f"TLS certificate: {error.certificate_error}"
            case aiohttp.ClientSSLError():
                return f"TLS: {error.os_error}"
            case aiohttp.ClientOSError():
                return _os_text(error)
            case aiohttp.ServerDisconnectedError():
                return "connection closed without an answer"
            case aiohttp.InvalidURL():
                return "the URL names its host in an unusual form"
            case aiohttp.ClientResponseError():
                return "the answer is not proper HTTP"
            case _:
                return type(error).__name__


def _was_closed(error: Exception) -> bool:
    """Whether the receiver has closed the connection, without a word: perhaps before the request came."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else it is what has come of a head
    return isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE)


@lru_cache(1024)
def _usable(text: str) -> URL | None:
    with suppress(ValueError):
        url = URL(text)
        if url.scheme in ("http", "https") and url.host:
            return url
    return None


def _clean(text: str) -> str:
    """Not too long, and nothing that a terminal or a database would stumble over."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_ERROR_CHARS])


def _os_text(error: aiohttp.ClientOSError) -> str:
    """The system's reason in its usual words; of a refused target the guard's."""
    if error.errno is None or error.errno == errno.EACCES:
        return str(error.strerror or error).removeprefix("Multiple exceptions: ")
    return os.strerror(error.errno).lower()


async def _read_reply(answer: aiohttp.ClientResponse) -> None:
    """Read a short body to its end, so that the connection stays usable; of any other, close it."""
    if answer.content.at_eof():
        return
    with suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(_REPLY_S):
            left = _REPLY_BYTES
            while left > 0 and (piece := await answer.content.read(left)):
                left -= len(piece)
    if not answer.content.at_eof():
        answer.close()
