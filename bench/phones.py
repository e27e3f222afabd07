"""The far end of the measurements of media: telephones that answer at once and talk until they are hung up.

A process of its own: `phones` starts it, `Phones` asks it. It knows as much SIP over UDP as an Asterisk
beside it says: INVITE, and again for other media, ACK, BYE, OPTIONS.
"""

from __future__ import annotations

import asyncio
import json
import queue
import re
import select
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.rtp import Streams, Window

_RESEND_S = 0.5
_COPIED = re.compile(rb"(?im)^(?:via|from|call-id|cseq|record-route):.*\r\n")
_HEADER = rb"(?im)^%s:\s*(.*?)\r$"
_MEDIA = re.compile(rb"(?m)^c=IN IP4 (\S+)\r$.*?^m=audio (\d+)", re.DOTALL)


@dataclass
class _Leg:
    side: int
    to: tuple[str, int]
    tag: str
    answer: bytes = b""
    peer: tuple[str, int] = ("", 0)
    stream: int | None = None  # None: not acknowledged yet
    answered_at: float = 0.0
    moved: int = 0  # how often it was told to send elsewhere


class _Sip:
    """Answers every INVITE, to 138… as a caller's phone and to the others as a callee's."""

    def __init__(self, streams: Streams) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self._streams = streams
        self._legs: dict[bytes, _Leg] = {}
        self._unsure: set[bytes] = set()  # whose answers nobody has acknowledged yet

    @property
    def moved(self) -> int:
        """Legs that were told to send elsewhere than at first."""
        return sum(leg.moved > 0 for leg in self._legs.values())

    def serve(self) -> None:
        while select.select([self.socket], [], [], 0)[0]:
            data, peer = self.socket.recvfrom(65535)
            self._take(data, peer)
        now = time.monotonic()
        for call in list(self._unsure):
            leg = self._legs[call]
            if now - leg.answered_at > _RESEND_S:
                leg.answered_at = now
                self.socket.sendto(leg.answer, leg.peer)

    def _take(self, data: bytes, peer: tuple[str, int]) -> None:
        method, call = data.split(b" ", 1)[0], _header(data, b"call-id")
        match method:
            case b"INVITE":
                self._invited(data, call, peer)
            case b"ACK" if call in self._legs:
                leg = self._legs[call]
                self._unsure.discard(call)
                if leg.stream is None:
                    leg.stream = self._streams.add(leg.side, leg.to)
            case b"BYE":
                self.socket.sendto(_reply(data, "200 OK", ""), peer)
                self._unsure.discard(call)
                ended = self._legs.pop(call, None)
                if ended is not None and ended.stream is not None:
                    self._streams.end(ended.stream)
            case b"OPTIONS" | b"CANCEL":
                self.socket.sendto(_reply(data, "200 OK", ""), peer)

    def _invited(self, data: bytes, call: bytes, peer: tuple[str, int]) -> None:
        found = _MEDIA.search(data)
        assert found is not None, data
        to = found[1].decode(), int(found[2])
        leg = self._legs.get(call)
        if leg is None:
            side = 0 if data.startswith(b"INVITE sip:138") else 1
            leg = self._legs[call] = _Leg(side, to, f"t{len(self._legs)}", peer=peer)
            self.socket.sendto(_reply(data, "180 Ringing", leg.tag, self.port), peer)
        elif leg.to != to:
            leg.to, leg.moved = to, leg.moved + 1
            if leg.stream is not None:
                self._streams.aim(leg.stream, to)
        leg.answer = _reply(data, "200 OK", leg.tag, self.port, self._streams.ports[leg.side])
        leg.answered_at = time.monotonic()
        self._unsure.add(call)
        self.socket.sendto(leg.answer, peer)


def _header(data: bytes, name: bytes) -> bytes:
    found = re.search(_HEADER % name, data)
    assert found is not None, data
    return found[1]


def _reply(request: bytes, status: str, tag: str, port: int = 0, media: int = 0) -> bytes:
    to = _header(request, b"to").decode()
    to += f";tag={tag}" if tag and ";tag=" not in to else ""
    body = (
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=audio {media} RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
    )
    body = body if media else ""
    kept = b"".join(_COPIED.findall(request)).decode()
    contact = f"Contact: <sip:127.0.0.1:{port}>\r\n" if port else ""
    kind = "Content-Type: application/sdp\r\n" if body else ""
    head = f"SIP/2.0 {status}\r\n{kept}To: {to}\r\n{contact}{kind}Content-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def _summary(window: Window, streams: Streams, dropped: int, sip: _Sip) -> dict[str, Any]:
    delays = np.concatenate([*window.delays_ms, np.zeros(0)])
    late = [(late, count) for late, count in window.late_ms if count]
    lates = np.repeat([one for one, _ in late], [count for _, count in late])
    return {
        "sent": window.sent,
        "received": len(delays),
        "delay_ms": _spread(delays),
        "late_ms": _spread(lates),
        "dropped": streams.dropped - dropped,
        "moved": sip.moved,
    }


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    names, points = ("p50", "p99", "p99.9", "max"), (50, 99, 99.9, 100)
    found = np.percentile(values, points) if len(values) else np.full(len(points), np.inf)
    return dict(zip(names, found.tolist(), strict=True))


def _run() -> None:
    """Asks on stdin: `count`, or `measure SECONDS`; each is answered by a line of JSON."""
    streams = Streams()
    sip = _Sip(streams)
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(asked,), daemon=True).start()
    print(json.dumps({"port": sip.port}), flush=True)
    window, dropped = None, 0
    while True:
        streams.serve()
        sip.serve()
        if window is not None and streams.complete(window):
            print(json.dumps(_summary(window, streams, dropped, sip)), flush=True)
            window = streams.window = None
        if asked.empty():
            continue
        match asked.get().split():
            case ["count"]:
                print(json.dumps({"up": streams.up, "heard": streams.heard}), flush=True)
            case ["measure", seconds]:
                dropped = streams.dropped
                window = streams.measure(float(seconds))
            case ["end"]:
                return


def _read(asked: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        asked.put(line)
    asked.put("end")  # who asked is gone


class Phones:
    """The process of the telephones, that listens on 127.0.0.1:`port`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, words: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(words.encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return answer


@asynccontextmanager
async def phones(folder: Path) -> AsyncIterator[Phones]:
    folder.mkdir(parents=True)
    with (folder / "errors").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.phones"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdout is not None
        yield Phones(process, json.loads(await process.stdout.readline())["port"])
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    _run()
