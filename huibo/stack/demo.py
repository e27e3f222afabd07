"""`huibo demo`: one real callback between two sandbox phones, shown step by step, proved by what they heard.

Owns the telling. The call is placed over HTTP as a customer places it; nothing of huibo is called from here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneMoment
from huibo.sandbox.tones import hears, tone_of
from huibo.stack.receiver import Received, Receiver, receiver
from huibo.stack.stack import Stack
from huibo.stack.up import prepare

CALLER, CALLEE = "13800138000", "13900139001"  # stays; hangs up after 5 s
_PATIENCE_S = 30
_ALL_STATUSES = "16191"
_TALK_S = 5
_HEARD_AT_LEAST_S = 3.5  # of the five, on a machine that is slow today


class DemoFailed(Exception):
    """The demo did not show what it should. The message is one line and says what to do."""


async def demo(console: Console) -> None:
    """Run it. Raises `DemoFailed`, `InstallError`, `ChildFailed`."""
    began = time.monotonic()
    stack = await asyncio.to_thread(prepare, console)
    async with stack, receiver() as receiving:
        console.print(f"engine, sandbox carrier and huibo are up at {stack.base_url}", style="dim")
        story = _Story(console, stack, receiving)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await story.tell()
        except TimeoutError:
            raise DemoFailed(f"the call did not finish in {_PATIENCE_S} s: see {stack.log}") from None
        _prove(console, stack)
        _print_cdr(console, story.cdr)
    console.print(f"\n[bold green]it works[/] ({time.monotonic() - began:.1f} s)")
    console.print("next: ./dev up, and paste the curl that it prints", markup=False)


class _Story:
    """The call as it goes: log lines and pushes, in the order in which they come."""

    def __init__(self, console: Console, stack: Stack, receiving: Receiver) -> None:
        self._console = console
        self._stack = stack
        self._receiving = receiving
        self._began = time.monotonic()
        self.cdr: dict[str, str] = {}

    async def tell(self) -> None:
        answer = await self._post()
        if answer.get("errorCode") != "0":
            raise DemoFailed(f"the request was refused: {json.dumps(answer)}: see {self._stack.log}")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_pushes())
            group.create_task(self._tell_call(answer["callId"]))
            group.create_task(self._until_recordings_are_closed())

    async def _post(self) -> dict[str, str]:
        request = {
            "appId": "demo",
            "requestId": "demo-1",
            "src": f"0086{CALLER}",
            "dst": f"0086{CALLEE}",
            "maxAllowTime": "5",
            "statusFlag": _ALL_STATUSES,
            "statusUrl": self._receiving.url("status"),
            "hangupUrl": self._receiving.url("cdr"),
        }
        path = "/201511v3/callBack?id=demo"
        self._line("request", f"POST {path}  src {CALLER}, dst {CALLEE}", "bold")
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._stack.base_url + path, json=request) as answered,
        ):
            answer: dict[str, str] = await answered.json(content_type=None)
        self._line("answer", json.dumps(answer))
        return answer

    async def _tell_call(self, call_id: str) -> None:
        async for line in _log_lines(self._stack.log):
            if line.get("call") != call_id:
                continue
            self._line(*_in_words(line))
            if line["event"] == "call over":
                return

    async def _until_recordings_are_closed(self) -> None:
        waiting = {CALLER, CALLEE}
        async for event in journal.follow(self._stack.carrier.calls_log):
            if event.event in (PhoneMoment.HUNG_UP, PhoneMoment.REFUSED):
                waiting.discard(event.number)
                if not waiting:
                    return

    async def _tell_pushes(self) -> None:
        while not self.cdr:
            push: Received = await self._receiving.arrived.get()
            if push.kind == "cdr":
                self.cdr = push.body
                self._line("push", f"CDR, callEndStatus {push.body['callEndStatus']}", "magenta")
            else:
                self._line("push", f"{push.body['userFlag']} {push.body['callStatus']}", "magenta")

    def _line(self, who: str, what: str, style: str = "") -> None:
        at = time.monotonic() - self._began
        self._console.print(f"{at:7.3f}  {who:<8}{what}", style=style, markup=False, soft_wrap=True)


_LEG_WORDS = {
    "leg invited": "INVITE sent",
    "leg ringing": "rings",
    "leg answered": "answers",
    "leg refused": "refused",
    "leg failed": "failed",
}


def _in_words(line: dict[str, Any]) -> tuple[str, str, str]:
    """A log line of a call as (who, what, style)."""
    who = line.get("leg", "call")
    match line["event"]:
        case "leg hung_up":
            return who, "hung up" if line["reason"] == "hung_up" else "was released", "cyan"
        case "legs joined":
            return who, "both legs are bridged: they talk", "bold cyan"
        case "call over":
            return who, f"over: {line['result']}, {line['talk_s']} s of talk", "bold"
        case event:
            code = f" ({line['sip']})" if line.get("sip") else ""
            return who, _LEG_WORDS.get(event, event) + code, "cyan"


async def _log_lines(file: Path) -> AsyncIterator[dict[str, Any]]:
    """The JSON lines of a log, those there are and those that come."""
    with file.open(encoding="utf-8") as lines:
        partial = ""
        while True:
            partial += lines.readline()
            if not partial.endswith("\n"):
                await asyncio.sleep(0.005)
                continue
            if partial.startswith("{"):
                yield json.loads(partial)
            partial = ""


def _prove(console: Console, stack: Stack) -> None:
    """Each phone plays a tone of its own; what each heard was recorded at the carrier."""
    answered = {event.number: event.heard for event in journal.read(stack.carrier.calls_log) if event.heard}
    console.print()
    for name, number, other in (("caller", CALLER, CALLEE), ("callee", CALLEE, CALLER)):
        if (file := answered.get(number)) is None:
            raise DemoFailed(f"the {name}'s phone was never answered at the carrier: see {stack.log}")
        heard = hears(stack.carrier.heard_dir / file, tone_of(other))
        if heard.seconds < _HEARD_AT_LEAST_S:
            raise DemoFailed(
                f"the {name} heard the other party for {heard.seconds:.1f} s of {_TALK_S}: "
                f"listen to {stack.carrier.heard_dir / file}"
            )
        console.print(
            f"[green]proved[/]  the {name} heard the other party's {tone_of(other)} Hz "
            f"for {heard.seconds:.1f} s at {heard.level_db:.0f} dB"
        )


def _print_cdr(console: Console, cdr: dict[str, str]) -> None:
    table = Table(title="CDR as pushed", title_justify="left", show_header=False, box=None, pad_edge=False)
    for field, value in cdr.items():
        table.add_row(field, value)
    console.print()
    console.print(table)
