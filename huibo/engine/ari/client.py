"""One connection to Asterisk's REST interface: requests and events over a single WebSocket.

Owns the socket, the matching of answers to requests, and the notice that the line is dead. One reader hands
every event on in the order in which it came. Knows ARI's transport, but nothing of calls.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp

from huibo.errors import EngineError, OutcomeUnknown

Json = dict[str, Any]

# What grows with the load: as one WebSocket message of 500 kB it crashes Asterisk.
_LISTS = frozenset({"applications", "bridges", "channels", "endpoints", "deviceStates", "mailboxes"})


class AriError(EngineError):
    """Asterisk answered a request with an error status."""

    def __init__(self, status: int, request: str, reason: str) -> None:
        self.status = status
        super().__init__(f"{request}: {status} {reason}")


class AriClient:
    """A client of one Asterisk. `connect`, then `run` until the connection is lost, then `connect` again."""

    def __init__(
        self,
        base_url: str,
        username: str,
        password: str,
        app: str,
        *,
        heartbeat_s: float,
        request_timeout_s: float,
        on_event: Callable[[Json], None],
    ) -> None:
        self._base = base_url.rstrip("/") + "/ari"
        self._headers = {"Authorization": aiohttp.encode_basic_auth(username, password)}
        self.app = app
        # aiohttp waits half a heartbeat for the pong: silence is noticed after 1.5 heartbeats at most
        self._heartbeat_s = heartbeat_s / 1.5
        self._timeout_s = request_timeout_s
        self._on_event = on_event
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Json]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._given_up = False
        self.heard_at: float | None = None  # when Asterisk gave its last sign of life, loop time

    @property
    def connected(self) -> bool:
        return self._socket is not None and not self._socket.closed

    async def connect(self) -> None:
        """Open the WebSocket and register the application. Raises `EngineError` when that cannot be done."""
        query = urlencode({"app": self.app, "subscribeAll": "false"})
        try:
            self._socket = await self._http().ws_connect(
                f"{self._base}/events?{query}",
                headers=self._headers,
                heartbeat=self._heartbeat_s,
                max_msg_size=0,
                autoping=False,  # a pong is a sign of life: it is to be seen
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EngineError(f"cannot connect to Asterisk at {self._base}: {error}") from error
        self._hear()

    async def run(self) -> None:
        """Read until the connection is lost; then every request that is still open has an unknown outcome."""
        socket = self._socket
        assert socket is not None
        self._given_up = False
        try:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.ERROR:
                    self._hear()
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._take(json.loads(message.data))
                elif message.type is aiohttp.WSMsgType.PING:
                    await socket.pong(message.data)
            if not isinstance(socket.exception(), TimeoutError) and not self._given_up:
                self._hear()  # it was closed from there: a process that dies says so in that very moment
        finally:
            await self._drop()

    async def disconnect(self) -> None:
        """Give the connection up; `run` ends."""
        self._given_up = True
        if self._socket is not None:
            await self._socket.close()

    async def close(self) -> None:
        await self._drop()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        **query: str | int,
    ) -> Any:
        """Send a request over the WebSocket; returns the decoded answer, None when it has no body.

        Raises `AriError` for an error status, `EngineError` when nothing was sent, `OutcomeUnknown` when no
        answer came. Never for requests whose answer grows with the load: that crashes Asterisk (see `fetch`).
        """
        if method == "GET" and path in _LISTS:
            raise ValueError(f"{path} is a list: fetch it")
        if self._socket is None or self._socket.closed:
            raise EngineError("not connected to Asterisk")
        number = str(next(self._ids))
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await self._socket.send_str(_envelope(number, method, path, body, query))
            async with asyncio.timeout(self._timeout_s):
                answer = await future
        except (TimeoutError, ConnectionError, aiohttp.ClientError) as error:
            raise OutcomeUnknown(f"{method} {path}: no answer from Asterisk") from error
        finally:
            self._waiting.pop(number, None)
        return _body_of(answer, f"{method} {path}")

    async def delete(self, path: str) -> bool:
        """DELETE; whether it was still there. Raises like `request`."""
        try:
            await self.request("DELETE", path)
        except AriError as error:
            if error.status != 404:
                raise
            return False
        return True

    async def fetch(self, path: str) -> Any:
        """GET over plain HTTP: for lists, which crash Asterisk as one large WebSocket message (500 kB)."""
        return json.loads(await self._get(f"{self._base}/{path}", path))

    async def fetch_text(self, path: str) -> str:
        """GET over plain HTTP of what Asterisk's server has beside ARI, under the same name and password."""
        return await self._get(f"{self._base.removesuffix('/ari')}/{path}", path)

    async def _get(self, url: str, path: str) -> str:
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        try:
            async with self._http().get(url, headers=self._headers, timeout=timeout) as answer:
                if answer.status >= 400:
                    raise AriError(answer.status, f"GET {path}", answer.reason or "")
                return await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EngineError(f"GET {path}: {error or 'no answer from Asterisk'}") from error

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session

    def _hear(self) -> None:
        self.heard_at = asyncio.get_running_loop().time()

    def _take(self, message: Json) -> None:
        if message.get("type") != "RESTResponse":
            self._on_event(message)
            return
        future = self._waiting.get(message.get("request_id", ""))
        if future is not None and not future.done():
            future.set_result(message)

    async def _drop(self) -> None:
        if self._socket is not None:
            await self._socket.close()
            self._socket = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(OutcomeUnknown("the connection to Asterisk was lost"))


def _envelope(
    number: str, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str | int]
) -> str:
    message: Json = {"type": "RESTRequest", "request_id": number, "method": method, "uri": path}
    if query:
        message["query_strings"] = [{"name": name, "value": str(value)} for name, value in query.items()]
    if body is not None:
        message["content_type"] = "application/json"
        message["message_body"] = json.dumps(body)
    return json.dumps(message)


def _body_of(answer: Json, request: str) -> Any:
    text = answer.get("message_body")
    body = json.loads(text) if text else None
    status = answer["status_code"]
    if status >= 400:
        reason = (body or {}).get("message") or (body or {}).get("error") or answer.get("reason_phrase", "")
        raise AriError(status, request, reason)
    return body
