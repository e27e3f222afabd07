"""uvicorn's HTTP/1.1 protocol within limits: how long and how large a head may be, how long a client may
idle or not read, how many connections there are; and deaf to offers to upgrade (RFC 9110, 7.8).

Java's HttpClient, and Spring on top of it, offers HTTP/2 (`Upgrade: h2c`) with every plain request. The
parser that uvicorn uses then takes the body for the other protocol's, and the request arrives without it
(uvicorn issue 2722). Owns no answer and no rule of the API.
"""

from __future__ import annotations

import asyncio
from array import array
from asyncio import Transport
from http import HTTPStatus
from typing import Any, ClassVar, TypeAlias

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from huibo.http.connections import Connections

Buffer: TypeAlias = "bytes | bytearray | memoryview[int] | array[int]"  # what httptools takes

_MAX_PIPELINED = 64  # requests on one connection that wait for their turn
_LAST_ANSWER = (
    b"HTTP/1.1 %d %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
)


class Http11(HttpToolsProtocol):
    """For `uvicorn.Config(http=limited(…))`. No upgrade is ever done, so there are no WebSockets either."""

    guests: ClassVar[Connections]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.limits = self.guests.limits
        self.parser = _Parser(self)
        self._refusal: HTTPStatus | None = None
        self._refused = False  # nothing is read any more
        self._in_head = False  # a request has begun and its head is not complete
        self._whole = True  # the request came last is complete
        self._head_bytes = 0
        self._unread = 0  # bytes that have come since something could be made of them
        self._timer: asyncio.TimerHandle | None = None  # until the client does its part
        self._reading: asyncio.TimerHandle | None = None  # until the client takes what was sent

    # The connection

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.guests.admit(self, self.client[0] if self.client else ""):
            self._expect(self.limits.head_timeout_s)
            self.guests.idle(self)
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guests.leave(self)
        self._expect(None)
        self.resume_writing()
        super().connection_lost(exc)

    def make_way(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._refused or self.transport.is_closing():
            return
        if self._timer is None and not self._in_head and self._whole and self._answered:
            self._expect(self.limits.head_timeout_s)
        self._unread += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self._refuse(self._refusal or HTTPStatus.BAD_REQUEST)
            return
        # one header, or a trailer, that never ends; a chunk's extension
        if self._unread > self.limits.max_head_bytes + len(data):
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reading is None:
            self._reading = self.loop.call_later(self.limits.send_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if self.flow is not None:
            super().resume_writing()

    # What the parser found

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._whole = True, False
        self._head_bytes = self._unread = 0
        if self._timer is None:
            self._expect(self.limits.head_timeout_s)

    def on_url(self, url: bytes) -> None:
        self._count(len(url), HTTPStatus.REQUEST_URI_TOO_LONG)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._unread = 0
        self._count(len(name) + len(value) + 4, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if not self._in_head:
            return  # a trailer: as a header it could name another address than the proxy did
        if len(self.headers) >= self.limits.max_headers:
            self._stop(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._stop(HTTPStatus.TOO_MANY_REQUESTS)
        self._in_head = False
        self._unread = 0
        self._expect(None)
        self.guests.busy(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._whole = True
        super().on_message_complete()
        if self._answered:
            self._rest()

    def on_response_complete(self) -> None:
        waiting = bool(self.pipeline)
        super().on_response_complete()
        if not waiting or self.transport.is_closing():
            self._rest()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    @property
    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _rest(self) -> None:
        """An answer has been given, and nothing is to be done at the moment."""
        if self.transport.is_closing():
            self._expect(self.limits.send_timeout_s, gone=True)  # as soon as the client has taken it
            return
        self.guests.idle(self)
        if self._in_head:
            return  # the next one is coming
        if not self._whole:
            self._unset_keepalive_if_required()
            self._expect(self.limits.body_timeout_s)  # for the rest of a body that nobody wants
            return
        self._expect(None)
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _expect(self, seconds: float | None, gone: bool = False) -> None:
        """Within so long the client must do its part; None: it is not its turn. `gone`: or it is cut off."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self.transport.abort if gone else self._too_late)

    def _too_late(self) -> None:
        self._timer = None
        if self._in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self._close()

    def _count(self, more: int, status: HTTPStatus) -> None:
        self._head_bytes += more
        if self._head_bytes > self.limits.max_head_bytes:
            self._stop(status)

    def _stop(self, status: HTTPStatus) -> None:
        """Leave the parser, for good."""
        self._refusal = status
        raise HttpParserError(status.phrase)

    def _refuse(self, status: HTTPStatus) -> None:
        """The connection ends with this answer, or with those to the requests before."""
        if not self._answered:
            self._refused = True
            self.cycle.keep_alive = False
            return
        if not self.transport.is_closing():
            text = status.phrase.encode()
            self.transport.write(_LAST_ANSWER % (status, text, len(text), text))
        self._close()

    def _close(self) -> None:
        """Close, even if the client does not take what is still to be sent."""
        self._unset_keepalive_if_required()
        self.transport.close()
        self._expect(self.limits.send_timeout_s, gone=True)

    def head_without_upgrade(self, method: bytes, version: str) -> bytes:
        """The head that was parsed last, to be parsed once more."""
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"


def limited(connections: Connections) -> type[Http11]:
    """The protocol of one server, whose connections are counted there."""
    return type("LimitedHttp11", (Http11,), {"guests": connections})


class _Parser(HttpRequestParser):
    """Stops at no upgrade: the head is read again without the offer, then what follows as its body."""

    def __init__(self, protocol: Http11) -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
        self._protocol = protocol

    def feed_data(self, data: Buffer) -> None:
        parser = self
        while True:
            try:
                return super(_Parser, parser).feed_data(data)
            except HttpParserUpgrade as upgrade:
                method, version = parser.get_method(), parser.get_http_version()
                if method == b"CONNECT":  # here the method is the offer
                    raise HttpParserError("no tunnels") from None
                data = self._protocol.head_without_upgrade(method, version) + bytes(data)[upgrade.args[0] :]
                # A fresh one: this one considers its message over, after "Connection: close" for good.
                parser = self._protocol.parser = _Parser(self._protocol)
