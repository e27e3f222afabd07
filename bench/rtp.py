"""RTP of very many calls from two sockets: one for the callers' ends, one for the callees'.

Every packet says in its payload whose it is and when it was sent, so that loss and one-way delay are exact:
one machine, one clock, and the kernel's own time of arrival. sendmmsg and recvmmsg, for Python has no time
for one packet at a time. Linux on 64 bits only.
"""

from __future__ import annotations

import ctypes
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FRAME_MS = 20
MOST = 4096  # streams
_BATCH = 512
_QUIET = 0xD5  # silence in A-law
_MAGIC = 0x6875_6962
_SO_TIMESTAMPNS = 35
_CONTROL = 64
_TAIL_S = 1.0  # a packet that has not come by then is lost
_BUFFER = 64 << 20

# The layouts of the kernel's interface; fields that are not named are padding.
_PACKET = np.dtype(
    {
        "names": ["flags", "kind", "sequence", "timestamp", "source", "magic", "stream", "number", "sent"],
        "formats": ["u1", "u1", ">u2", ">u4", ">u4", "u4", "u4", "u4", "u8"],
        "offsets": [0, 1, 2, 4, 8, 12, 16, 20, 24],
        "itemsize": 172,
    }
)
_ADDRESS = np.dtype([("family", "u2"), ("port", ">u2"), ("host", ">u4"), ("zero", "u8")])
_VECTOR = np.dtype([("base", "u8"), ("length", "u8")])
_MESSAGE = np.dtype(
    {
        "names": ["name", "name_length", "vector", "vectors", "control", "control_length", "length"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 56],
        "itemsize": 64,
    }
)
_ARRIVAL = np.dtype(  # a control message with a timespec
    {
        "names": ["seconds", "nanoseconds"],
        "formats": ["i8", "i8"],
        "offsets": [16, 24],
        "itemsize": _CONTROL,
    }
)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Window:
    """What was sent between two moments (UNIX ns), and what came of it."""

    begin: int
    end: int
    sent: int = 0
    delays_ms: list[NDArray[np.float64]] = field(default_factory=list)
    late_ms: list[tuple[float, int]] = field(default_factory=list)  # how late so many packets were sent


class Streams:
    """`add` a stream and it is sent every 20 ms, `serve` in a loop; `measure` opens a window."""

    def __init__(self) -> None:
        self._sockets = [_socket(), _socket()]
        self.ports = [one.getsockname()[1] for one in self._sockets]
        # RTCP comes there, and is of no interest
        self._beside = [_bound(port + 1) for port in self.ports]
        self._packets = np.zeros(MOST, _PACKET)
        raw = self._packets.view(np.uint8).reshape(MOST, -1)
        raw[:, 32:] = _QUIET
        self._packets["flags"], self._packets["kind"] = 0x80, 8
        self._packets["magic"] = _MAGIC
        self._packets["stream"] = np.arange(MOST)
        self._packets["source"] = np.arange(MOST) + 1
        self._to = np.zeros(MOST, _ADDRESS)
        self._to["family"] = socket.AF_INET
        self._out = _messages(self._packets, self._to)
        self._side = np.zeros(MOST, np.uint8)
        self._on = np.zeros(MOST, bool)
        self._turns: dict[tuple[int, int], NDArray[np.intp]] = {}
        self._free = list(range(MOST - 1, -1, -1))
        self._heard = np.zeros(MOST, bool)
        self._in = np.zeros(_BATCH, _PACKET)
        self._arrivals = np.zeros(_BATCH, _ARRIVAL)
        self._from = _messages(self._in, None, self._arrivals)
        self._due = time.monotonic_ns()
        self._tick = 0
        self.window: Window | None = None

    def add(self, side: int, to: tuple[str, int]) -> int:
        """A stream from the callers' socket (0) or the callees' (1); sent until `end`."""
        stream = self._free.pop()
        self._side[stream], self._on[stream], self._heard[stream] = side, True, False
        self.aim(stream, to)
        self._plan()
        return stream

    def aim(self, stream: int, to: tuple[str, int]) -> None:
        """Send it there from now on."""
        self._to["host"][stream] = int.from_bytes(socket.inet_aton(to[0]))
        self._to["port"][stream] = to[1]

    def end(self, stream: int) -> None:
        self._on[stream] = False
        self._free.insert(0, stream)
        self._plan()

    @property
    def up(self) -> int:
        return int(self._on.sum())

    @property
    def heard(self) -> int:
        """Streams of which something has come through."""
        return int((self._on & self._heard).sum())

    @property
    def dropped(self) -> int:
        """Packets for which our own sockets had no room, since their making."""
        ours = {f"0100007F:{port:04X}" for port in self.ports}
        rows = [line.split() for line in Path("/proc/net/udp").read_text("ascii").splitlines()[1:]]
        return sum(int(row[-1]) for row in rows if row[1] in ours)

    def measure(self, seconds: float) -> Window:
        """The window that begins now. It is complete a second after its end."""
        now = time.time_ns()
        self.window = Window(now, now + round(seconds * 1e9))
        return self.window

    def complete(self, window: Window) -> bool:
        return time.time_ns() >= window.end + _TAIL_S * 1e9

    def serve(self) -> None:
        """Sleep to the next millisecond, send what is due, and take what has come."""
        wait = self._due - time.monotonic_ns()
        if wait > 0:
            time.sleep(wait / 1e9)
        while (late := time.monotonic_ns() - self._due) >= 0:
            self._send(self._tick % FRAME_MS, late / 1e6)
            self._tick += 1
            self._due += 1_000_000
        for one in self._sockets:
            self._take(one)

    def _plan(self) -> None:
        """Who is sent in which millisecond."""
        streams = np.flatnonzero(self._on)
        for side in (0, 1):
            for turn in range(FRAME_MS):
                mine = (streams // 2 % FRAME_MS == turn) & (self._side[streams] == side)
                self._turns[side, turn] = streams[mine]

    def _send(self, turn: int, late_ms: float) -> None:
        for side, one in enumerate(self._sockets):
            streams = self._turns.get((side, turn))
            if streams is None or not len(streams):
                continue
            self._packets["number"][streams] += 1
            self._packets["sequence"][streams] += 1
            self._packets["timestamp"][streams] += 160
            now = time.time_ns()
            self._packets["sent"][streams] = now
            out = self._out[streams]
            done = sent = 0
            while done < len(out) and sent >= 0:  # -1: the system has no room for them
                left = out[done:]
                sent = _libc.sendmmsg(one.fileno(), ctypes.c_void_p(left.ctypes.data), len(left), 0)
                done += max(sent, 0)
            if self.window is not None and self.window.begin <= now < self.window.end:
                self.window.sent += done
                self.window.late_ms.append((late_ms, done))

    def _take(self, one: socket.socket) -> None:
        while True:
            self._from["control_length"] = _CONTROL
            got = _libc.recvmmsg(
                one.fileno(), ctypes.c_void_p(self._from.ctypes.data), _BATCH, socket.MSG_DONTWAIT, None
            )
            if got <= 0:
                return
            ours = (self._in["magic"][:got] == _MAGIC) & (self._from["length"][:got] == _PACKET.itemsize)
            packets, arrivals = self._in[:got][ours], self._arrivals[:got][ours]
            self._heard[packets["stream"]] = True
            if self.window is not None:
                sent = packets["sent"].astype(np.int64)
                at = arrivals["seconds"] * 1_000_000_000 + arrivals["nanoseconds"]
                mine = (sent >= self.window.begin) & (sent < self.window.end)
                self.window.delays_ms.append((at - sent)[mine] / 1e6)
            if got < _BATCH:
                return


def _messages(
    packets: NDArray[np.void], to: NDArray[np.void] | None = None, control: NDArray[np.void] | None = None
) -> NDArray[np.void]:
    """A message for each packet. It points into these arrays."""
    count = np.arange(len(packets), dtype=np.uint64)
    vectors = np.zeros(len(packets), _VECTOR)
    vectors["base"] = packets.ctypes.data + count * packets.itemsize
    vectors["length"] = packets.itemsize
    made = np.zeros(len(packets), _MESSAGE)
    made["vector"], made["vectors"] = vectors.ctypes.data + count * vectors.itemsize, 1
    if to is not None:
        made["name"], made["name_length"] = to.ctypes.data + count * to.itemsize, to.itemsize
    if control is not None:
        made["control"] = control.ctypes.data + count * control.itemsize
    _kept.append(vectors)
    return made


_kept: list[NDArray[np.void]] = []  # what is pointed to


def _socket() -> socket.socket:
    """On an even port whose neighbour is free, with room for what comes while we sleep."""
    while True:
        one = _bound(0)
        port = one.getsockname()[1]
        if port % 2 == 0:
            try:
                _bound(port + 1).close()
            except OSError:
                continue
            break
        one.close()
    force = getattr(socket, "SO_RCVBUFFORCE", 33) if os.geteuid() == 0 else socket.SO_RCVBUF
    one.setsockopt(socket.SOL_SOCKET, force, _BUFFER)
    one.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    return one


def _bound(port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", port))
    one.setblocking(False)
    return one
