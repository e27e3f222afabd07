"""A small SIP phone for tests: a UDP call out (RFC 3261), A-law audio both ways (RFC 3550), keys (RFC 4733).

Notes when each response and packet came, so that a test can ask for it; it never judges, and never resends.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

RATE = 8000
_PATIENCE_S = 60  # whatever a test waits for comes sooner or not at all
_FRAME = 160  # samples in 20 ms
_KEYS = "0123456789*#ABCD"
_DTMF = {
    key: (low, high)
    for low, row in zip((697, 770, 852, 941), ("123A", "456B", "789C", "*0#D"), strict=True)
    for high, key in zip((1209, 1336, 1477, 1633), row, strict=True)
}
_PCMA, _EVENT = 8, 101


def _alaw_values() -> NDArray[np.int16]:
    """G.711 A-law: the 16-bit sample that each of the 256 codes stands for."""
    code = np.arange(256) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    size = np.where(exponent == 0, mantissa * 16 + 8, (mantissa * 16 + 264) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, size, -size).astype(np.int16)


_VALUES = _alaw_values()
_ORDER = np.argsort(_VALUES)


def decode(alaw: bytes) -> Samples:
    """A-law to samples from -1 to 1."""
    return _VALUES[np.frombuffer(alaw, np.uint8)] / 32768.0


def encode(samples: Samples) -> bytes:
    """Samples from -1 to 1 to the nearest A-law codes."""
    values = _VALUES[_ORDER].astype(np.float64)
    at = np.searchsorted((values[1:] + values[:-1]) / 2, samples * 32768.0)
    return _ORDER[at].astype(np.uint8).tobytes()


@dataclass(frozen=True, slots=True)
class Packet:
    """An RTP packet and when it came (time.monotonic)."""

    at: float
    kind: int  # payload type
    sequence: int
    timestamp: int
    payload: bytes


class _Socket(asyncio.DatagramProtocol):
    """A UDP socket whose news can be waited for."""

    def __init__(self) -> None:
        self._news = asyncio.Event()

    async def until(self, so: Callable[[], bool]) -> None:
        """Wait until something that came made `so` true. Raises TimeoutError."""
        async with asyncio.timeout(_PATIENCE_S):
            while not so():
                self._news.clear()
                await self._news.wait()


class Audio(_Socket):
    """The RTP socket of a call: keeps what comes, sends what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.packets: list[Packet] = []
        self._voice = 0  # samples
        self._transport: asyncio.DatagramTransport | None = None
        self._sender: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls) -> Audio:
        _, audio = await asyncio.get_running_loop().create_datagram_endpoint(cls, ("127.0.0.1", 0))
        return audio

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        if len(data) >= 12 and data[0] >> 6 == 2:
            kind, sequence, timestamp = data[1] & 0x7F, int.from_bytes(data[2:4]), int.from_bytes(data[4:8])
            self.packets.append(Packet(time.monotonic(), kind, sequence, timestamp, data[12:]))
            self._voice += len(data) - 12 if kind == _PCMA else 0
            self._news.set()

    async def until_heard(self, seconds: float) -> None:
        """Wait until so many seconds of voice have come in all."""
        await self.until(lambda: self._voice >= seconds * RATE)

    @property
    def port(self) -> int:
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def speak(self, tone: int, to: tuple[str, int]) -> None:
        """Send a sine of `tone` Hz until closed."""
        self._sender = asyncio.create_task(self._send(lambda _: (tone,), to))

    def press_in_band(self, key: str, to: tuple[str, int]) -> None:
        """Send silence until closed, and after half a second 0.2 s of the two tones of a key (ITU-T Q.23)."""
        pair = _DTMF[key]
        self._sender = asyncio.create_task(self._send(lambda s: pair if 0.5 <= s < 0.7 else (), to))

    async def _send(self, tones: Callable[[float], tuple[int, ...]], to: tuple[str, int]) -> None:
        """`tones`: what sounds so many seconds after the beginning."""
        source, began, frame = uuid.uuid4().bytes[:4], time.monotonic(), 0
        while self._transport is not None:
            moments = (np.arange(_FRAME) + frame * _FRAME) / RATE
            sound = np.zeros(_FRAME)
            for tone in tones(frame * 0.02):
                sound += 0.25 * np.sin(2 * np.pi * tone * moments)
            head = bytes((0x80, _PCMA)) + (frame & 0xFFFF).to_bytes(2) + (frame * _FRAME).to_bytes(4) + source
            self._transport.sendto(head + encode(sound), to)
            frame += 1
            await asyncio.sleep(max(0.0, began + frame * 0.02 - time.monotonic()))

    @property
    def samples(self) -> Samples:
        """All voice that came, in order of arrival, without the pauses between packets."""
        voice = b"".join(packet.payload for packet in self.packets if packet.kind == _PCMA)
        return decode(voice)

    @property
    def keys(self) -> list[tuple[float, str]]:
        """The keys that were pressed, each with the time of its first packet."""
        events = [packet for packet in self.packets if packet.kind == _EVENT]
        starts = events[:1] + [b for a, b in pairwise(events) if a.timestamp != b.timestamp]
        return [(packet.at, _KEYS[packet.payload[0]]) for packet in starts]

    @property
    def keys_up(self) -> int:
        """How many keys were let go."""
        ends = {
            packet.timestamp for packet in self.packets if packet.kind == _EVENT and packet.payload[1] >> 7
        }
        return len(ends)

    def close(self) -> None:
        if self._sender:
            self._sender.cancel()
        if self._transport:
            self._transport.close()
            self._transport = None


@dataclass(frozen=True, slots=True)
class Response:
    """A response to the INVITE, when it came (time.monotonic), and whether it described media."""

    at: float
    code: int
    media: bool


@dataclass
class Call(_Socket):
    """One call from a phone at 127.0.0.1 to `number` at 127.0.0.1:`port`."""

    port: int
    number: str
    caller: str
    speaks: int | None = None  # Hz, sent from the first response with media on
    placed_at: float = field(default_factory=time.monotonic)
    responses: list[Response] = field(default_factory=list)
    bye_at: float | None = None  # when the far end hung up

    def __post_init__(self) -> None:
        super().__init__()
        self._id = uuid.uuid4().hex
        self._to = f"<sip:{self.number}@127.0.0.1:{self.port}>"
        self._branch = f"z9hG4bK{self._id}"
        self._done: set[str] = set()
        self.audio: Audio

    @classmethod
    async def place(cls, port: int, number: str, caller: str = "1000", speaks: int | None = None) -> Call:
        """Send the INVITE."""
        call = cls(port, number, caller, speaks)
        call.audio = await Audio.open()
        await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: call, ("127.0.0.1", 0), ("127.0.0.1", port)
        )
        call.placed_at = time.monotonic()
        call._send("INVITE", 1, body=call._offer())
        return call

    async def __aenter__(self) -> Call:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.answered and self.bye_at is None and "BYE" not in self._done:
            await self.hang_up()
        elif not self.final:
            await self.cancel()
        self.audio.close()
        self._transport.close()

    # what happened

    @property
    def codes(self) -> list[int]:
        """All responses to the INVITE but 100, in order."""
        return [response.code for response in self.responses if response.code != 100]

    @property
    def final(self) -> Response | None:
        return next((response for response in self.responses if response.code >= 200), None)

    @property
    def answered(self) -> bool:
        return bool(self.final and self.final.code < 300)

    def after(self, code: int) -> float:
        """Seconds from the INVITE to the first response with that code."""
        return next(response.at for response in self.responses if response.code == code) - self.placed_at

    async def until_final(self) -> Response:
        """The final response to the INVITE."""
        await self.until(lambda: self.final is not None)
        assert self.final
        return self.final

    async def until_ringing(self) -> None:
        await self.until(lambda: 180 in self.codes)

    async def until_bye(self) -> float:
        """Seconds from the answer to the BYE of the far end."""
        await self.until(lambda: self.bye_at is not None)
        assert self.bye_at
        return self.bye_at - self.placed_at - self.after(200)

    # what to do

    async def hang_up(self) -> None:
        """BYE, and wait for its 200."""
        self._send("BYE", 2, branch=self._branch + "b")
        await self.until(lambda: "BYE" in self._done)

    async def cancel(self) -> None:
        """CANCEL, and wait for the 487."""
        self._send("CANCEL", 1, to=self._to)
        await self.until_final()

    # SIP

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        head, _, body = data.decode().partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        if start.startswith("SIP/2.0 "):
            self._on_response(int(start.split()[1]), headers, body)
        elif start.startswith("BYE "):
            self.bye_at = time.monotonic()
            self._reply(lines)
        self._news.set()

    def _on_response(self, code: int, headers: dict[str, str], body: str) -> None:
        method = headers["cseq"].split()[1]
        if code >= 200:
            self._done.add(method)
        if method != "INVITE":
            return
        if code > 100:
            self._to = headers["to"]
        self.responses.append(Response(time.monotonic(), code, bool(body)))
        if body and self.speaks:
            media = re.search(r"m=audio (\d+)", body)
            assert media
            self.audio.speak(self.speaks, ("127.0.0.1", int(media[1])))
            self.speaks = None
        if code >= 200:
            self._send("ACK", 1, branch=self._branch + ("a" if code < 300 else ""))

    def _send(self, method: str, number: int, to: str = "", branch: str = "", body: str = "") -> None:
        host, port = self._transport.get_extra_info("sockname")
        lines = [
            f"{method} sip:{self.number}@127.0.0.1:{self.port} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};branch={branch or self._branch};rport",
            f"From: <sip:{self.caller}@{host}:{port}>;tag={self._id[:8]}",
            f"To: {to or self._to}",
            f"Call-ID: {self._id}",
            f"CSeq: {number} {method}",
            f"Contact: <sip:{self.caller}@{host}:{port}>",
            "Max-Forwards: 70",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        self._transport.sendto(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    def _reply(self, lines: list[str]) -> None:
        kept = [line for line in lines if re.match(r"(?i)(via|from|to|call-id|cseq):", line)]
        self._transport.sendto("\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]).encode())

    def _offer(self) -> str:
        return (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {self.audio.port} RTP/AVP {_PCMA} {_EVENT}\r\na=rtpmap:{_PCMA} PCMA/8000\r\n"
            f"a=rtpmap:{_EVENT} telephone-event/8000\r\na=fmtp:{_EVENT} 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
        )


async def ask_options(port: int) -> int:
    """Send OPTIONS to 127.0.0.1:`port`; the code of the answer. Raises TimeoutError when there is none."""
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    class Asker(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            answer.set_result(int(data.split()[1]))

        def error_received(self, exc: Exception) -> None:
            """Nobody listens there yet."""

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Asker, ("127.0.0.1", 0))
    own, key = transport.get_extra_info("sockname")[1], uuid.uuid4().hex
    lines = [
        f"OPTIONS sip:127.0.0.1:{port} SIP/2.0",
        f"Via: SIP/2.0/UDP 127.0.0.1:{own};branch=z9hG4bK{key};rport",
        f"From: <sip:ping@127.0.0.1:{own}>;tag={key[:8]}",
        f"To: <sip:127.0.0.1:{port}>",
        f"Call-ID: {key}",
        "CSeq: 1 OPTIONS",
        "Max-Forwards: 70",
        "Content-Length: 0",
    ]
    try:
        transport.sendto(("\r\n".join(lines) + "\r\n\r\n").encode(), ("127.0.0.1", port))
        async with asyncio.timeout(1):
            return await answer
    finally:
        transport.close()
