"""Whole calls: huibo beside a bare ARI script and beside AMI with a dialplan, on one carrier.

For each: how many calls a second go through, what one costs each process, and how long its steps take.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import SOCK_STREAM

from bench.carrier import Moments, callee_of, caller_of, carrier, moments
from bench.contestants import Contestant, with_asterisk, with_huibo
from bench.load import Placed
from bench.meter import Meter
from bench.report import Section, median, percentiles
from bench.server import enter_all
from bench.sink import listens
from huibo.engine.install.binary import Asterisk
from huibo.stack.children import Child
from huibo.stack.ports import free
from huibo.stack.stack import Settings
from tests.postgres import new_database, postmaster, running

BARE, AMI, NOTHING, ALL, SERVED = (
    "bare ARI script",
    "AMI + dialplan",
    "huibo, statusFlag 0",
    "huibo, 12 statuses + CDR",
    "huibo on PostgreSQL, statusFlag 0",
)
CONTESTANTS = (BARE, AMI, NOTHING, ALL, SERVED)
_QUICK = CONTESTANTS[:4]
CONTROL, ASTERISK, DATABASE = "control plane", "asterisk", "database"  # as contestants name their processes
_OTHERS = ("carrier", "client", "receiver")  # what belongs to no contestant
_SLOW_MS = 500.0  # a set-up that takes longer than this at p95 is a queue, not a rate that is sustained
_FIRST_GUESS = 100.0
_PAUSE_S = 0.3  # between two bursts, for what is still being cleared away

_ACCEPT = "request → answer"
_CALLER_INVITE = "answer → caller's INVITE"
_CALLEE_INVITE = "caller's 200 → callee's INVITE"
_SET_UP = "request → callee's 200"
_PUSH = "event → push"


@dataclass
class Burst:
    """What came of calls placed for some seconds."""

    contestant: str
    rate: float | None  # asked for; None: as many as went
    calls: int = 0
    failed: int = 0
    per_s: float = 0.0
    cpu_ms: dict[str, float] = field(default_factory=dict)  # a call, by process
    steps_ms: dict[str, list[float]] = field(default_factory=dict)

    @property
    def total_cpu_ms(self) -> float:
        """Of what carries the calls."""
        return sum(ms for name, ms in self.cpu_ms.items() if name not in _OTHERS)

    @property
    def sustained(self) -> bool:
        if self.failed or self.rate is None or self.per_s < 0.9 * self.rate:
            return False
        return percentiles(self.steps_ms[_SET_UP])[1] < _SLOW_MS


class Field:
    """The contestants, ready, and bursts of calls with numbers of their own."""

    def __init__(self, contestants: Mapping[str, Contestant], receiver: Child, pushes: Path) -> None:
        self.contestants = contestants
        self._receiver = receiver
        self._pushes = pushes
        self._next = 0

    async def burst(
        self, name: str, seconds: float, rate: float | None = None, window: int = 10_000
    ) -> Burst:
        """Calls of one contestant: at a rate, or as many as go with `window` under way."""
        contestant = self.contestants[name]
        first, self._next = self._next, self._next + 100_000
        log = contestant.carrier.log
        since = log.stat().st_size if log.exists() else 0
        pids = {"carrier": contestant.carrier.pid, "receiver": self._receiver.pid}
        meter = Meter(dict(contestant.pids) | pids)
        argv = (
            *contestant.argv,
            *("--carrier-log", str(log), "--first", str(first), "--seconds", str(seconds)),
            *("--rate", str(rate or 0), "--window", str(window)),
        )
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{name}: the load ended with exit code {process.returncode}")
        await asyncio.sleep(_PAUSE_S)
        placed = Placed.parse(out.decode())
        costs = meter.read() | {CONTROL if contestant.drives else "client": placed.cpu_ms}
        burst = Burst(name, rate, calls=len(placed.sent), failed=len(placed.sent) - len(placed.over))
        in_time = [at for at in placed.over.values() if at <= placed.ended]
        lead_s = min(placed.over.values(), default=placed.ended) - placed.began  # no call ends before
        burst.per_s = len(in_time) / max(0.1, placed.ended - placed.began - lead_s)
        burst.cpu_ms = {process: ms / max(1, burst.calls) for process, ms in costs.items()}
        burst.steps_ms = _steps(placed, moments(log, since))
        if name == ALL:
            burst.steps_ms[_PUSH] = await self._pushed(moments(log, since))
        return burst

    async def _pushed(self, seen: Moments) -> list[float]:
        """From what the carrier did to the arrival of the push that tells of it."""
        self._pushes.unlink(missing_ok=True)
        os.kill(self._receiver.pid, signal.SIGUSR1)
        while not self._pushes.exists():
            await asyncio.sleep(0.05)
        return [1000 * one for one in _push_delays(self._pushes, seen)]


@asynccontextmanager
async def field_of(
    asterisk: Asterisk, folder: Path, names: tuple[str, ...] = CONTESTANTS
) -> AsyncIterator[Field]:
    """All contestants, idle."""
    async with AsyncExitStack() as exits:
        far = await exits.enter_async_context(carrier(folder / "carrier"))
        (port,) = free(SOCK_STREAM)
        pushes = folder / "pushes"
        argv = (sys.executable, "-m", "bench.sink", str(port), str(pushes))
        receiver = Child("receiver", argv, dict(os.environ), folder / "receiver", listens(port))
        await receiver.start()
        exits.push_async_callback(receiver.stop)
        await receiver.wait_until_it_answers()
        url = f"http://127.0.0.1:{port}"
        told = {"statusFlag": "16191", "statusUrl": f"{url}/status", "hangupUrl": f"{url}/cdr"}

        async def on_postgres() -> AsyncIterator[Contestant]:
            with running() as server:
                stored: Settings = {"": {"database_url": new_database(server, "bench_calls")}}
                plain = {"statusFlag": "0"}
                async with with_huibo(asterisk, folder / "served", far, SERVED, plain, stored) as one:
                    yield replace(one, pids={**one.pids, DATABASE: postmaster(server)})

        makers = {
            BARE: lambda: with_asterisk(asterisk, folder / "bare", far, BARE, by_ami=False),
            AMI: lambda: with_asterisk(asterisk, folder / "ami", far, AMI, by_ami=True),
            NOTHING: lambda: with_huibo(asterisk, folder / "nothing", far, NOTHING, {"statusFlag": "0"}),
            ALL: lambda: with_huibo(asterisk, folder / "all", far, ALL, told),
            SERVED: asynccontextmanager(on_postgres),
        }
        ready = await enter_all(exits, [makers[name]() for name in names])
        yield Field(dict(zip(names, ready, strict=True)), receiver, pushes)


async def measure(asterisk: Asterisk, folder: Path, quick: bool, turns: int) -> Section:
    """All contestants in turn, several turns; medians."""
    names = _QUICK if quick else CONTESTANTS
    bursts: dict[str, list[Burst]] = {name: [] for name in names}
    best: dict[str, list[float]] = {name: [] for name in names}
    async with field_of(asterisk, folder, names) as contest:
        # what is read, compiled and connected only once
        await asyncio.gather(*(contest.burst(name, 0.5 if quick else 3, rate=10) for name in names))
        for _ in range(1 if quick else turns):
            for name in names:
                if quick:
                    bursts[name].append(await contest.burst(name, 1.5, rate=25))
                    best[name].append((await contest.burst(name, 3, window=250)).per_s)
                else:
                    bursts[name].append(await contest.burst(name, 8, rate=50))
                    guess = best[name][-1] if best[name] else _FIRST_GUESS
                    best[name].append(await _highest(contest, name, guess))
    return _section(bursts, best)


async def _highest(contest: Field, name: str, guess: float) -> float:
    """The highest rate that is sustained, to 7 %: bursts of 6 s, beginning with a guess."""
    good, bad = 0.0, None
    rate, step = guess, 1.07 if guess != _FIRST_GUESS else 1.5
    while bad is None or good == 0 or bad / good > 1.07:
        burst = await contest.burst(name, 6, rate=rate)
        if burst.sustained:
            good = rate
        else:
            bad = rate
        if bad is None:
            rate = good * step
        elif good:
            rate = (good * bad) ** 0.5
        else:
            rate = bad / step
        if rate < 5:
            break
    return good


def _section(bursts: Mapping[str, list[Burst]], best: Mapping[str, list[float]]) -> Section:
    section = Section("Whole calls")
    rates = {name: median(found) for name, found in best.items()}
    totals = {name: median([burst.total_cpu_ms for burst in found]) for name, found in bursts.items()}
    rows = []
    for name in bursts:
        cpu = {
            process: median([burst.cpu_ms[process] for burst in bursts[name]])
            for process in bursts[name][0].cpu_ms
        }
        failed = sum(burst.failed for burst in bursts[name])
        rows.append(
            (
                name,
                f"{rates[name]:.0f}",
                f"{rates[name] / rates[BARE]:.2f}",
                f"{cpu[CONTROL]:.2f}",
                f"{cpu[ASTERISK]:.2f}",
                f"{cpu[DATABASE]:.2f}" if DATABASE in cpu else "",
                f"{totals[name]:.2f}",
                f"{totals[name] / totals[AMI]:.2f}",
                str(failed),
            )
        )
        section.figures[name] = {
            "calls_per_s": rates[name],
            "of_bare": rates[name] / rates[BARE],
            "cpu_ms": cpu,
            "cpu_of_ami": totals[name] / totals[AMI],
            "failed": failed,
        }
    processes = ("control plane, CPU ms", "Asterisk", "database", "all")
    heads = ("", "calls/s", "of bare", *processes, "of AMI", "failed")
    section.table(heads, rows)
    section.table(*_times(section, bursts))
    return section


def _times(
    section: Section, bursts: Mapping[str, list[Burst]]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = []
    for name, many in bursts.items():
        for step in many[-1].steps_ms:
            values = [value for burst in many for value in burst.steps_ms[step]]
            p50, p95, p99 = percentiles(values)
            rows.append((name, step, f"{p50:.1f}", f"{p95:.1f}", f"{p99:.1f}"))
            section.figures[name].setdefault("ms", {})[step] = {"p50": p50, "p95": p95, "p99": p99}
    rate = next(iter(bursts.values()))[0].rate
    return (f"at {rate:.0f} calls/s", "step", "p50 ms", "p95", "p99"), rows


def _steps(placed: Placed, seen: Moments) -> dict[str, list[float]]:
    steps: dict[str, list[float]] = {name: [] for name in (_ACCEPT, _CALLER_INVITE, _CALLEE_INVITE, _SET_UP)}
    for n, sent in placed.sent.items():
        caller, callee = seen.get(caller_of(n), {}), seen.get(callee_of(n), {})
        if n in placed.accepted:
            steps[_ACCEPT].append(placed.accepted[n] - sent)
            if "called" in caller:
                steps[_CALLER_INVITE].append(caller["called"] - placed.accepted[n])
        if "answered" in caller and "called" in callee:
            steps[_CALLEE_INVITE].append(callee["called"] - caller["answered"])
        if "answered" in callee:
            steps[_SET_UP].append(callee["answered"] - sent)
    return {name: [1000 * one for one in many] for name, many in steps.items() if many}


def _push_delays(pushes: Path, seen: Moments) -> Iterator[float]:
    """The carrier rings at once when it is called, and answers when it says so."""
    moment_of = {"ringing": "called", "answered": "answered"}
    for line in pushes.read_bytes().splitlines():
        at, kind, body = line.split(b" ", 2)
        if kind != b"status":
            continue
        push = json.loads(body)
        number = push[push["userFlag"]].removeprefix("0086")
        moment = moment_of.get(push["callStatus"])
        if moment is not None and moment in seen.get(number, {}):
            yield float(at) - seen[number][moment]
