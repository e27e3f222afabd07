"""SIPp as the far end of a trunk, for what a dialplan cannot do: finds it, runs it, gives its verdict.

Owns the processes it starts and their files. What the far end does, and what it insists upon, stands in
sipp/edge_*.xml: each is a whole scenario for one leg, and a call's two legs make one of two of them.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from socket import SOCK_DGRAM
from typing import Self
from xml.dom.minidom import Document, Element, parse

from huibo.engine.install.binary import root_argv
from huibo.engine.install.prefix import ensure
from huibo.stack.children import Child, ChildFailed
from huibo.stack.ports import free
from tests.integration.softphone import Audio

SCENARIOS = Path(__file__).with_name("sipp")
PATIENCE_S = 50  # longer than SIP's own timers of 32 s (RFC 3261, 17)
_CALLER = "INVITE sip:138"  # how the caller's leg is told from the callee's
_TRIES = 5
_SHOWN = 12_000  # characters of a message log in a failure


@cache
def program() -> tuple[str, ...]:
    """The words that run SIPp: the machine's own, else a private one (fetched once)."""
    if found := shutil.which("sipp"):
        return (found,)
    return root_argv(ensure(("sip-tester",), "usr/bin/sipp"), "usr/bin/sipp")


def two_legs(caller: str, callee: str) -> str:
    """One scenario that plays edge_`caller`.xml to callers (138…) and edge_`callee`.xml to everybody else."""
    document = parse(str(SCENARIOS / f"edge_{callee}.xml"))
    scenario = document.documentElement
    assert scenario is not None
    invite, *of_callee = list(_elements(scenario))
    other_invite, *of_caller = list(_elements(_scenario(caller)))
    invite.setAttribute("rrs", "true")  # for [next_url]
    _action(document, invite).appendChild(
        _made(document, "ereg", regexp=_CALLER, search_in="msg", assign_to="is_caller")
    )
    for action in other_invite.getElementsByTagName("action"):
        for step in list(_elements(action)):
            _action(document, invite).appendChild(document.importNode(step, deep=True))
    scenario.insertBefore(_made(document, "nop", next="caller", test="is_caller"), of_callee[0])
    scenario.appendChild(_made(document, "nop", next="the-end"))
    scenario.appendChild(_made(document, "label", id="caller"))
    for element in of_caller:
        scenario.appendChild(_renamed(document.importNode(element, deep=True)))
    scenario.appendChild(_made(document, "label", id="the-end"))
    scenario.appendChild(_made(document, "nop"))
    for element in of_callee:
        _set_media(element, "callee_port")
    return document.toxml(encoding="utf-8").decode()


class FarEnd:
    """A running SIPp that takes so many legs: `async with FarEnd(…) as far_end`, then `await verdict()`.

    `keys` go into the scenario as [name]. The audio that the engine sends it is in `caller`, `callee` (the
    answered legs) and `early` (what a leg was told before its answer).
    """

    def __init__(self, folder: Path, caller: str, callee: str, legs: int, keys: Mapping[str, str]) -> None:
        self.port = 0
        self.folder = folder
        self._what = two_legs(caller, callee)
        self._legs = legs
        self._keys = dict(keys)
        self._child: Child | None = None

    async def __aenter__(self) -> Self:
        self.caller, self.callee, self.early = [await Audio.open() for _ in range(3)]
        self.folder.mkdir(parents=True)
        keys = self._keys | {
            "caller_port": str(self.caller.port),
            "callee_port": str(self.callee.port),
            "early_port": str(self.early.port),
        }
        for key, value in keys.items():  # SIPp's own -key fills no status line
            self._what = self._what.replace(f"[{key}]", value)
        (self.folder / "scenario.xml").write_text(self._what, encoding="utf-8")
        tries = 0
        while True:
            try:
                await self._start()
            except ChildFailed:  # somebody may have been faster with the port
                tries += 1
                if tries == _TRIES:
                    await self.__aexit__()
                    raise
            else:
                return self

    async def _start(self) -> None:
        (self.port,) = free(SOCK_DGRAM)
        environment = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "OPENSSL_CONF": "/dev/null"}
        self._child = Child("sipp", self._argv(), environment, self.folder / "output", self._listens)
        await self._child.start()
        await self._child.wait_until_it_answers()

    async def __aexit__(self, *_: object) -> None:
        assert self._child is not None
        await self._child.stop()
        for audio in (self.caller, self.callee, self.early):
            audio.close()

    async def verdict(self) -> None:
        """Wait until all legs are over. AssertionError, with all that was said, if one went otherwise."""
        assert self._child is not None
        assert self._child.process is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                code = await self._child.process.wait()
        except TimeoutError:
            raise AssertionError(f"SIPp still waits\n{self._told()}") from None
        if code != 0:
            raise AssertionError(f"SIPp ended with {code}\n{self._told()}")

    @property
    def messages(self) -> str:
        """All that was sent and received so far."""
        file = self.folder / "messages"
        return file.read_text(errors="replace") if file.is_file() else ""

    def received(self, method: str, number: str) -> list[str]:
        """The requests of a method to a number, as they came; each ends where SIPp's next entry begins."""
        came = re.findall(r"message received.*?\n\n(.*?)(?=\n-{20,}|\Z)", self.messages, re.DOTALL)
        return [one for one in came if one.startswith(f"{method} sip:{number}@")]

    def offered_port(self, number: str) -> int:
        """Where the engine wants the audio of the leg to `number`."""
        found = re.search(r"m=audio (\d+)", self.received("INVITE", number)[0])
        assert found
        return int(found[1])

    def _argv(self) -> tuple[str, ...]:
        return (
            *program(),
            *("-sf", str(self.folder / "scenario.xml"), "-i", "127.0.0.1", "-p", str(self.port)),
            *("-m", str(self._legs), "-nostdin", "-deadcall_wait", "0"),
            *("-trace_msg", "-message_file", str(self.folder / "messages")),
            *("-trace_err", "-error_file", str(self.folder / "errors")),
            *("-trace_screen", "-screen_file", str(self.folder / "counters")),
        )

    async def _listens(self) -> bool:
        """Whether the port is there and is our SIPp's own."""
        assert self._child is not None
        sockets = [line.split() for line in Path("/proc/net/udp").read_text(encoding="ascii").splitlines()]
        bound = {f"socket:[{one[9]}]" for one in sockets if one[1] == f"0100007F:{self.port:04X}"}
        try:
            held = {os.readlink(file) for file in Path(f"/proc/{self._child.pid}/fd").iterdir()}
        except FileNotFoundError:
            return False  # it has ended, or closed one in the meantime
        return bool(bound & held)

    def _told(self) -> str:
        """Errors, counters and the last messages."""
        parts = [self.folder / name for name in ("output", "errors", "counters", "messages")]
        return "\n".join(p.read_text(errors="replace")[-_SHOWN:] for p in parts if p.is_file())


def _scenario(name: str) -> Element:
    scenario = parse(str(SCENARIOS / f"edge_{name}.xml")).documentElement
    assert scenario is not None
    for element in _elements(scenario):
        _set_media(element, "caller_port")
    return scenario


def _elements(parent: Element) -> Iterator[Element]:
    return (node for node in list(parent.childNodes) if isinstance(node, Element))


def _made(document: Document, name: str, **attributes: str) -> Element:
    element = document.createElement(name)
    for key, value in attributes.items():
        element.setAttribute(key, value)
    return element


def _action(document: Document, message: Element) -> Element:
    """The `action` of a message, made when it has none."""
    for found in message.getElementsByTagName("action"):
        return found
    action = document.createElement("action")
    message.appendChild(action)
    return action


def _renamed(element: Element) -> Element:
    """With labels of its own: both legs may have one of the same name."""
    names = ("id",) if element.tagName == "label" else ("next", "ontimeout")
    for name in names:
        if element.hasAttribute(name):
            element.setAttribute(name, f"caller-{element.getAttribute(name)}")
    return element


def _set_media(element: Element, key: str) -> None:
    """[media_port] in a leg's texts means the port of that leg."""
    for node in element.childNodes:
        if node.nodeType in (node.TEXT_NODE, node.CDATA_SECTION_NODE):
            node.data = node.data.replace("[media_port]", f"[{key}]")
