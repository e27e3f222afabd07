"""The far end of the measurements: SIPp, which costs little, answers at once and logs when.

Its log is the witness for all times that are not the contestants' own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import SOCK_DGRAM

from huibo.stack.children import Child
from huibo.stack.ports import free
from tests.integration.sipp import program

SCENARIO = Path(__file__).with_name("carrier.xml")
Moments = dict[str, dict[str, float]]  # what happened to a number, and when: UNIX seconds


def caller_of(n: int) -> str:
    return f"138{n:08d}"


def callee_of(n: int) -> str:
    return f"139{n:08d}"


@dataclass(frozen=True, slots=True)
class Carrier:
    """A SIPp that listens on 127.0.0.1:`port` and writes `log`."""

    port: int
    log: Path
    child: Child

    @property
    def pid(self) -> int:
        return self.child.pid


@asynccontextmanager
async def carrier(folder: Path) -> AsyncIterator[Carrier]:
    folder.mkdir(parents=True)
    (port,) = free(SOCK_DGRAM)
    log = folder / "log"
    argv = (
        *program(),
        *("-sf", str(SCENARIO), "-i", "127.0.0.1", "-p", str(port), "-nostdin", "-deadcall_wait", "0"),
        *("-trace_logs", "-log_file", str(log), "-trace_err", "-error_file", str(folder / "errors")),
        *("-fd", "1", "-buff_size", "16777216"),
    )
    environment = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "OPENSSL_CONF": "/dev/null"}

    async def listens() -> bool:
        return f"0100007F:{port:04X}" in Path("/proc/net/udp").read_text(encoding="ascii")

    child = Child("sipp", argv, environment, folder / "output", listens)
    await child.start()
    try:
        await child.wait_until_it_answers()
        yield Carrier(port, log, child)
    finally:
        assert child.process is not None
        child.process.kill()  # it would wait for its calls
        await child.process.wait()


class Tail:
    """Whole lines of a log as they come: (UNIX seconds, what, number)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def new(self) -> Iterator[tuple[float, str, str]]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                grown = file.read()
        except FileNotFoundError:
            return
        whole = grown[: grown.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            words = line.split()
            if len(words) >= 3 and words[-2] in ("called", "answered", "ended"):
                yield float(words[-3]), words[-2], words[-1].removeprefix("sip:")


def moments(log: Path, since: int = 0) -> Moments:
    """What happened to each number, from byte `since` on; of what happened twice the first."""
    tail = Tail(log)
    tail._offset = since
    found: Moments = defaultdict(dict)
    for at, what, number in tail.new():
        found[number].setdefault(what, at)
    return found
