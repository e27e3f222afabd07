"""uvicorn's HTTP/1.1 protocol, made to ignore offers to upgrade (RFC 9110, 7.8).

Java's HttpClient, and Spring on top of it, offers HTTP/2 (`Upgrade: h2c`) with every plain request. The
parser that uvicorn uses then takes the body for the other protocol's, and the request arrives without it
(uvicorn issue 2722). Owns no answer and no rule of the API.
"""

from __future__ import annotations

import asyncio
from array import array
from typing import Any, TypeAlias

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

Buffer: TypeAlias = "bytes | bytearray | memoryview[int] | array[int]"  # what httptools takes


class Http11(HttpToolsProtocol):
    """For `uvicorn.Config(http=Http11)`. No upgrade is ever done, so there are no WebSockets either."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = _Parser(self)

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def head_without_upgrade(self, method: bytes, version: str) -> bytes:
        """The head that was parsed last, to be parsed once more."""
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"


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
