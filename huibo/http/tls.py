"""A connection until it is encrypted: counted from its first moment, and cut when the client takes its time.

uvicorn would let the event loop do it, which counts nobody and waits for a minute. Knows no HTTP: what comes
after the handshake is another protocol's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Generator
from typing import Any, ClassVar

from huibo.http.connections import Connections

_CLOSE_S = 5.0  # for the client's part of the farewell


class _Begun:
    """A coroutine that has begun: what comes in before a task has its turn is the handshake's already."""

    def __init__(self, begun: Coroutine[Any, Any, asyncio.Transport | None]) -> None:
        self._coroutine = begun
        self._awaits = begun.send(None)

    def __await__(self) -> Generator[Any, Any, asyncio.Transport | None]:
        while True:
            try:
                try:
                    result = yield self._awaits
                except BaseException as error:
                    self._awaits = self._coroutine.throw(error)
                else:
                    self._awaits = self._coroutine.send(result)
            except StopIteration as done:
                secured: asyncio.Transport | None = done.value
                return secured


class Handshake(asyncio.Protocol):
    """For `uvicorn.Config(http=encrypted(…))`."""

    guests: ClassVar[Connections]
    context: ClassVar[ssl.SSLContext]
    make: ClassVar[Callable[..., asyncio.Protocol]]

    def __init__(self, **given: Any) -> None:
        self._given = given
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("peername")
        if not self.guests.admit(self, str(peer[0]) if peer else ""):
            transport.abort()
            return
        self.guests.idle(self)
        loop = asyncio.get_running_loop()
        begun = loop.start_tls(
            transport,
            self,
            self.context,
            server_side=True,
            ssl_handshake_timeout=self.guests.limits.head_timeout_s,
            ssl_shutdown_timeout=_CLOSE_S,
        )
        self._transport = transport
        self._task = loop.create_task(self._shake(transport, _Begun(begun)), name="handshake")

    def data_received(self, data: bytes) -> None:
        """What a client sends right behind its handshake."""
        self._early += data

    def connection_lost(self, error: Exception | None) -> None:
        self.guests.leave(self)

    def make_way(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._task is not None:
            self._task.cancel()

    async def _shake(self, transport: asyncio.Transport, begun: _Begun) -> None:
        try:
            secured = await begun
        except (OSError, asyncio.CancelledError):  # of TLS, too, and a client that takes too long
            transport.abort()
            return
        finally:
            self.guests.leave(self)
        if secured is None or secured.is_closing():
            transport.abort()
            return
        protocol = type(self).make(**self._given)
        protocol.connection_made(secured)
        secured.set_protocol(protocol)
        if self._early:
            protocol.data_received(self._early)


def encrypted(
    protocol: Callable[..., asyncio.Protocol], connections: Connections, certificate: str, key: str
) -> type[Handshake]:
    """What stands before `protocol`, with a certificate of one's own (files). Raises `OSError`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    inside = {"guests": connections, "context": context, "make": staticmethod(protocol)}
    return type("EncryptedHandshake", (Handshake,), inside)
