"""One connection to Asterisk's REST interface: requests and events over a single WebSocket.

Owns the socket, the matching of answers to requests, and the notice that the line is dead. One reader hands
every event on in the order in which it came. Knows ARI's transport, but nothing of calls.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
import orjson
import structlog

from huibo.errors import EngineError, OutcomeUnknown

log = structlog.get_logger()

Json = dict[str, Any]
Answer = asyncio.Future[Any]  # what `AriClient.request` would return or raise

GONE = 404  # the channel, bridge, playback or variable exists no more
# What grows with the load: as one WebSocket message of 500 kB it crashes Asterisk.
_LISTS = frozenset({"applications", "bridges", "channels", "endpoints", "deviceStates", "mailboxes"})


class AriError(EngineError):
    """Asterisk answered a request with an error status."""

    def __init__(self, status: int, request: str, reason: str) -> None:
        self.status = status
        super().__init__(f"{request}: {status} {reason}")


class _Waiting(NamedTuple):
    """A request that has not been answered; `due`: until when it may be, loop time."""

    request: str
    due: float
    answer: Answer


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
        self._waiting: dict[str, _Waiting] = {}  # the oldest first: all have the same time
        self._expiry: asyncio.TimerHandle | None = None  # one for all, since hardly any is ever due
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
                    self._take(orjson.loads(message.data))
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
        return await (await self.send(method, path, body, **query))

    async def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        **query: str | int,
    ) -> Answer:
        """Send a request and leave its answer to be awaited. Asterisk takes requests in the order of sending.

        Raises `EngineError` when nothing was sent, `OutcomeUnknown` when perhaps something was.
        """
        if method == "GET" and path in _LISTS:
            raise ValueError(f"{path} is a list: fetch it")
        if self._socket is None or self._socket.closed:
            raise EngineError("not connected to Asterisk")
        loop, number, request = asyncio.get_running_loop(), str(next(self._ids)), f"{method} {path}"
        answer: Answer = loop.create_future()
        waiting = self._waiting[number] = _Waiting(request, loop.time() + self._timeout_s, answer)
        if self._expiry is None:
            self._expiry = loop.call_at(waiting.due, self._expire)
        try:
            await self._socket.send_str(_envelope(number, method, path, body, query))
        except (ConnectionError, aiohttp.ClientError) as error:
            answer.cancel()
            raise _unanswered(request) from error
        except asyncio.CancelledError:
            answer.cancel()
            raise
        return answer

    async def tell(self, method: str, path: str, **query: str | int) -> None:
        """Send a request whose answer changes nothing. A refusal is logged, unless that it was for is gone.

        Raises like `send`.
        """
        (await self.send(method, path, None, **query)).add_done_callback(_log_refusal)

    async def delete(self, path: str) -> bool:
        """DELETE; whether it was still there. Raises like `request`."""
        try:
            await self.request("DELETE", path)
        except AriError as error:
            if error.status != GONE:
                raise
            return False
        return True

    async def fetch(self, path: str) -> Any:
        """GET over plain HTTP: for lists, which crash Asterisk as one large WebSocket message (500 kB)."""
        return orjson.loads(await self._get(f"{self._base}/{path}", path))

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
        waiting = self._waiting.pop(message.get("request_id", ""), None)
        if waiting is None or waiting.answer.done():
            return  # it was given up
        try:
            waiting.answer.set_result(_body_of(message, waiting.request))
        except (AriError, KeyError, TypeError, AttributeError, ValueError) as error:
            _fail(waiting.answer, error)

    def _expire(self) -> None:
        """Give up what has waited for too long."""
        self._expiry, loop = None, asyncio.get_running_loop()
        for number, waiting in list(self._waiting.items()):
            if waiting.due > loop.time():
                self._expiry = loop.call_at(waiting.due, self._expire)
                return
            del self._waiting[number]
            _fail(waiting.answer, _unanswered(waiting.request))

    async def _drop(self) -> None:
        if self._socket is not None:
            await self._socket.close()
            self._socket = None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        open_requests, self._waiting = self._waiting, {}
        for waiting in open_requests.values():
            _fail(waiting.answer, OutcomeUnknown("the connection to Asterisk was lost"))


def _unanswered(request: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"{request}: no answer from Asterisk")


def _fail(answer: Answer, error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # looked at: asyncio need not complain when nobody waits for it any more


def _log_refusal(answer: Answer) -> None:
    try:
        answer.result()
    except OutcomeUnknown as error:
        log.warning("outcome unknown", reason=str(error))
    except AriError as error:
        if error.status != GONE:
            log.warning("engine refused", reason=str(error))


def _envelope(
    number: str, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str | int]
) -> str:
    message: Json = {"type": "RESTRequest", "request_id": number, "method": method, "uri": path}
    if query:
        message["query_strings"] = [{"name": name, "value": str(value)} for name, value in query.items()]
    if body is not None:
        message["content_type"] = "application/json"
        message["message_body"] = orjson.dumps(body).decode()
    return orjson.dumps(message).decode()


def _body_of(answer: Json, request: str) -> Any:
    text = answer.get("message_body")
    body = orjson.loads(text) if text else None
    status = answer["status_code"]
    if status >= 400:
        reason = (body or {}).get("message") or (body or {}).get("error") or answer.get("reason_phrase", "")
        raise AriError(status, request, reason)
    return body
