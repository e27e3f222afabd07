"""Far ends that do what carriers do and no dialplan can: SIPp plays them, against the whole product.

All calls are placed at once, each over a trunk of its own; each test waits for its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from huibo import config
from huibo.clock import Clock
from huibo.engine.install.instance import Instance
from huibo.model import Trunk
from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneMoment
from huibo.sandbox.tones import RINGBACK_HZ, dominant, hears
from huibo.stack.stack import Stack
from huibo.storage import catalog
from huibo.storage.database import open_engine
from tests.integration.conftest import StartStack
from tests.integration.customer import Customer, Placed
from tests.integration.sip_edges import BY_NAME, EDGES, VICTIM, Edge
from tests.integration.sipp import FarEnd
from tests.integration.softphone import Call as SoftCall
from tests.integration.test_outcomes import check_times

RING_S = 8
TIMER_B_S = 16  # RFC 3261, 17.1.1.2: 64 times T1, which is 250 ms here
SHOWN_TO_CALLER, SHOWN_TO_CALLEE = "4001360123", "02131264133"
ANNOUNCED_HZ, SPOKEN_HZ = 700, 1000
USERNAME, PASSWORD = "caller", "secret"


@dataclass(frozen=True)
class Under:
    """A call that is being made, its far end and its stack."""

    edge: Edge
    call: Placed
    far_end: FarEnd
    stack: Stack


Running = tuple[Stack, Customer]


class Bench:
    """Makes the calls, and keeps them by their names."""

    def __init__(self, exits: AsyncExitStack, folder: Path, elsewhere: int) -> None:
        self.calls: dict[str, Under] = {}
        self._exits = exits
        self._folder = folder
        self._keys = {"reason": "Q.850;cause=16", "user": VICTIM, "elsewhere": str(elsewhere)}

    async def place_all(self, quick: Running, patient: Running) -> None:
        edges = sorted(EDGES, key=lambda edge: edge.speaks)  # what speaks wants a quiet machine
        far_ends = await asyncio.gather(*(self._far_end(edge) for edge in edges))
        async with asyncio.TaskGroup() as speaking:
            for edge, far_end in zip(edges, far_ends, strict=True):
                under = await self._place(edge, far_end, *(patient if edge.patient else quick))
                self.calls[edge.name] = under
                if edge.speaks:
                    speaking.create_task(speak(under))

    async def _far_end(self, edge: Edge) -> FarEnd:
        legs = 2 if edge.dst else 1
        keys = self._keys | dict(edge.keys)
        far_end = FarEnd(self._folder / edge.name, edge.caller, edge.callee, legs, keys)
        return await self._exits.enter_async_context(far_end)

    async def _place(self, edge: Edge, far_end: FarEnd, stack: Stack, customer: Customer) -> Under:
        """Over a trunk of its own, which comes before the sandbox's for these numbers."""
        prefixes = tuple(f"86{number}" for number in edge.numbers)
        trunk = Trunk(
            edge.name,
            "127.0.0.1",
            far_end.port,
            username=USERNAME,
            password=PASSWORD,
            priority=-1,
            prefixes=prefixes,
            options_s=0,
        )
        database = open_engine(config.load(stack.settings_file).database_url)
        with database.begin() as connection:
            catalog.add_trunk(connection, trunk, Clock().now_ms())
        database.dispose()
        call = await customer.call(
            *edge.numbers, srcDisplayNum=SHOWN_TO_CALLER, dstDisplayNum=SHOWN_TO_CALLEE
        )
        return Under(edge, call, far_end, stack)


def set_aside(stack: Stack) -> None:
    """The engine knows the sandbox's trunk, but no call here is to go there: what fails is to fail."""
    database = open_engine(config.load(stack.settings_file).database_url)
    with database.begin() as connection:
        sandbox = catalog.find_trunk(connection, "sandbox")
        assert sandbox is not None
        catalog.change_trunk(connection, replace(sandbox, prefixes=("8699",)))
    database.dispose()


async def speak(under: Under) -> None:
    """What comes from where early media was announced, and after the answer from where the callee is."""
    call, far_end = under.call, under.far_end
    await call.until_told("dst invite")
    engine = "127.0.0.1", far_end.offered_port(under.edge.numbers[1])
    early = far_end.callee if under.edge.callee == "ringing_media" else far_end.early
    early.speak(SPOKEN_HZ if early is far_end.callee else ANNOUNCED_HZ, engine)
    await call.until_told("dst answered")
    if early is not far_end.callee:
        early.close()
        far_end.callee.speak(SPOKEN_HZ, engine)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[socket.socket]:
    """A place where nobody is to be called."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as place:
        place.bind(("127.0.0.1", 0))
        place.setblocking(False)
        yield place


@pytest.fixture(scope="module")
async def edges(
    start_stack: Callable[[AsyncExitStack], StartStack],
    elsewhere: socket.socket,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[str, Under]]:
    async with AsyncExitStack() as exits:
        start = start_stack(exits)
        limits = {"callee_ring_s": RING_S, "no_audio_s": 60}
        quick, patient = await asyncio.gather(
            start({"calls": {"caller_ring_s": RING_S} | limits}),
            start({"calls": {"caller_ring_s": TIMER_B_S + 20} | limits}),
        )
        for stack, _ in (quick, patient):
            set_aside(stack)
        bench = Bench(exits, tmp_path_factory.mktemp("sipp"), elsewhere.getsockname()[1])
        await bench.place_all(quick, patient)
        yield bench.calls


@pytest.mark.parametrize("name", BY_NAME)
async def test_statuses_cdr_and_what_the_far_end_saw(name: str, edges: dict[str, Under]) -> None:
    edge, call = edges[name].edge, edges[name].call
    cdr = await call.cdr()
    told = call.told  # everything told comes before the CDR
    assert tuple(t.removeprefix("src ") for t in told if t.startswith("src")) == edge.src
    assert tuple(t.removeprefix("dst ") for t in told if t.startswith("dst")) == edge.dst
    assert cdr["callEndStatus"] == edge.result
    check_times(cdr, call)
    await edges[name].far_end.verdict()


# --- silence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["caller-silent", "callee-silent"])
async def test_our_timer_ends_a_leg_that_nobody_answers(name: str, edges: dict[str, Under]) -> None:
    assert RING_S - 1 <= (await lasted(edges[name])) <= RING_S + 3


async def test_sips_own_timer_ends_it_when_ours_is_longer(edges: dict[str, Under]) -> None:
    assert TIMER_B_S - 1 <= (await lasted(edges["caller-silent-for-timer-b"])) <= TIMER_B_S + 3


async def lasted(under: Under) -> int:
    """Seconds from the INVITE of the silent leg to the end of the call."""
    cdr = await under.call.cdr()
    begin = "startDstCallTime" if under.edge.dst else "startSrcCallTime"
    return int(cdr["endCallTime"]) - int(cdr[begin])


@pytest.mark.parametrize("name", ["caller-silent", "callee-silent", "caller-silent-for-timer-b"])
async def test_silence_is_asked_again_only_as_sip_does(name: str, edges: dict[str, Under]) -> None:
    """One INVITE, resent at doubling distances until timer B: RFC 3261 lets nobody CANCEL before a 1xx."""
    under = edges[name]
    await under.far_end.verdict()
    invites = under.far_end.received("INVITE", under.edge.numbers[1 if under.edge.dst else 0])
    assert len({re.search(r"branch=(\S+)", invite)[1] for invite in invites}) == 1  # type: ignore[index]
    assert 5 <= len(invites) <= 7


# --- media --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["caller-other-media", "caller-forked-media"])
async def test_audio_goes_where_the_answer_says(name: str, edges: dict[str, Under]) -> None:
    await edges[name].far_end.verdict()
    ringing = dominant(edges[name].far_end.caller.samples)  # the callee rings for a second
    assert ringing[0].hz == RINGBACK_HZ
    assert not edges[name].far_end.early.packets


@pytest.mark.parametrize("name", ["callee-other-media", "callee-forked-media"])
async def test_the_caller_hears_the_announcement_and_then_the_callee(
    name: str, edges: dict[str, Under]
) -> None:
    await edges[name].far_end.verdict()
    heard = edges[name].far_end.caller.samples
    announced, spoken = hears(heard, ANNOUNCED_HZ), hears(heard, SPOKEN_HZ)
    assert announced.seconds > 1  # of 4
    assert spoken.seconds > 1  # of 3
    assert announced.begins_s is not None
    assert spoken.begins_s is not None
    assert announced.begins_s < spoken.begins_s


async def test_the_caller_hears_what_a_180_brings(edges: dict[str, Under]) -> None:
    far_end = edges["callee-media-in-180"].far_end
    await far_end.verdict()
    heard = far_end.caller.samples
    assert hears(heard, SPOKEN_HZ).seconds > 4  # of 4 s of ringing and 3 s of talk
    assert {one.hz for one in dominant(heard)[1:]} == {SPOKEN_HZ}  # ours had begun, and stopped


async def test_our_ringing_tone_goes_on_when_progress_brings_nothing(edges: dict[str, Under]) -> None:
    far_end = edges["callee-183-without-media"].far_end
    await far_end.verdict()
    heard = [one.hz for one in dominant(far_end.caller.samples)]
    assert len(heard) >= 5  # half seconds, of the three until the answer
    assert (heard[0], *heard[2:5]) == (RINGBACK_HZ, None, None, None)  # 1 s on, 4 s off


@pytest.mark.parametrize("name", ["caller-holds", "callee-100rel"])
async def test_the_offer_names_codecs_in_the_trunks_order_and_shows_the_right_numbers(
    name: str, edges: dict[str, Under]
) -> None:
    under = edges[name]
    await under.call.cdr()
    for number, shown in zip(under.edge.numbers, (SHOWN_TO_CALLER, SHOWN_TO_CALLEE), strict=True):
        (invite, *_) = under.far_end.received("INVITE", number)
        assert re.search(r"m=audio \d+ RTP/AVP 8 0 ", invite)
        assert f"\nFrom: <sip:{shown}@" in invite


# --- hanging up ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["caller-bye-q850-44", "callee-bye-q850-44"])
async def test_a_bye_is_a_hang_up_whatever_reason_it_gives(name: str, edges: dict[str, Under]) -> None:
    """Cause 44 is also what the engine's own watchdog gives; that one is not the far end's doing."""
    under = edges[name]
    await under.call.cdr()
    leg = name.partition("-")[0]
    lines = [json.loads(line) for line in under.stack.log.read_text().splitlines()]
    (reason,) = [
        line["reason"]
        for line in lines
        if line.get("call") == under.call.call_id and line["event"] == "leg hung_up" and line["leg"] == leg
    ]
    assert reason == "hung_up"


# --- redirection and transfer -------------------------------------------------------------------


async def test_nobody_is_called_who_was_not_asked_for(
    edges: dict[str, Under], elsewhere: socket.socket
) -> None:
    """Neither where a 302 or a REFER points, nor by the engine's own names smuggled into one."""
    for name in BY_NAME:
        if "302" in name or "refers" in name:
            await edges[name].far_end.verdict()
            assert not edges[name].far_end.received("INVITE", VICTIM)
    assert [came for came in arrived(elsewhere) if b"SIP/2.0" in came] == []
    stack = edges["caller-302"].stack
    sandbox = SoftCall.place(stack.carrier.sip_port, "13800000107")  # logged later than anything before it
    async with await sandbox as after:
        await after.until_final()
    async for event in journal.follow(stack.carrier.calls_log):
        if event.number == "13800000107":
            break
    invited = [e.number for e in journal.read(stack.carrier.calls_log) if e.event is PhoneMoment.INVITED]
    assert VICTIM not in invited


def arrived(place: socket.socket) -> Iterator[bytes]:
    """What came to a socket so far."""
    with suppress(BlockingIOError):
        while True:
            yield place.recv(65536)


# --- digest -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["caller-digest-407", "callee-digest-407", "callee-digest-401"])
async def test_the_credentials_are_the_trunks(name: str, edges: dict[str, Under]) -> None:
    under = edges[name]
    await under.far_end.verdict()
    number = under.edge.numbers[0 if name.startswith("caller") else 1]
    first, second = under.far_end.received("INVITE", number)
    header = dict(under.edge.keys)["answer"]
    assert header not in first
    found = re.search(rf"\n{header}: Digest (.*)", second)
    assert found
    given = dict(re.findall(r'(\w+)="?([^",]*)"?', found[1]))
    assert given["username"] == USERNAME
    secret = md5(USERNAME, given["realm"], PASSWORD)
    what = md5("INVITE", given["uri"])
    assert given["response"] == md5(
        secret, given["nonce"], given["nc"], given["cnonce"], given["qop"], what
    )  # RFC 2617, 3.2.2.1


def md5(*parts: str) -> str:
    return hashlib.md5(":".join(parts).encode()).hexdigest()


# --- from outside -------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", ["1000", "trunk-sandbox"])  # a stranger, and who says to be a trunk
@pytest.mark.parametrize(
    "method", ["INVITE", "OPTIONS", "REGISTER", "MESSAGE", "REFER", "SUBSCRIBE", "HELLO"]
)
async def test_requests_from_outside_are_refused(method: str, caller: str, edges: dict[str, Under]) -> None:
    stack = edges["caller-302"].stack
    port = engine_port(stack)
    if method == "INVITE":
        async with await SoftCall.place(port, "13900000000", caller) as call:
            code = (await call.until_final()).code
    else:
        code = await ask(port, method, caller)
    assert 400 <= code < 600
    assert " 13900000000@" not in await console(stack, "core show channels concise")


async def ask(port: int, method: str, caller: str) -> int:
    """Send a request to 127.0.0.1:`port`; the code of the final answer."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.setblocking(False)
        own.connect(("127.0.0.1", port))
        host, at = own.getsockname()
        lines = [
            f"{method} sip:13900000000@127.0.0.1:{port} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{at};branch=z9hG4bK{method}{at};rport",
            f"From: <sip:{caller}@{host}:{at}>;tag={at}",
            f"To: <sip:13900000000@127.0.0.1:{port}>",
            f"Call-ID: {method}-{at}",
            f"CSeq: 1 {method}",
            f"Contact: <sip:{caller}@{host}:{at}>",
            "Refer-To: <sip:13911112222@127.0.0.1>",
            "Event: presence",
            "Max-Forwards: 70",
            "Content-Length: 0",
        ]
        await loop.sock_sendall(own, ("\r\n".join(lines) + "\r\n\r\n").encode())
        async with asyncio.timeout(10):
            while True:
                code = int((await loop.sock_recv(own, 65536)).split()[1])
                if code >= 200:
                    return code


def engine_port(stack: Stack) -> int:
    settings = (stack.folder / "engine/etc/pjsip.conf").read_text()
    found = re.search(r"bind=127\.0\.0\.1:(\d+)", settings)
    assert found
    return int(found[1])


# --- afterwards ---------------------------------------------------------------------------------


async def test_each_call_has_one_cdr_and_leaves_nothing_behind(edges: dict[str, Under]) -> None:
    for under in edges.values():
        await under.call.cdr()
        await under.far_end.verdict()
    for stack in {id(under.stack): under.stack for under in edges.values()}.values():
        assert await console(stack, "core show channels concise") == ""
        assert "stasis" not in await console(stack, "bridge show all")
    assert [under.edge.name for under in edges.values() if len(under.call.cdrs) != 1] == []


async def console(stack: Stack, command: str) -> str:
    """What the engine's console says."""
    instance = Instance(stack.asterisk, stack.folder / "engine")
    process = await asyncio.create_subprocess_exec(
        *instance.cli(command), env=instance.env, stdout=asyncio.subprocess.PIPE
    )
    return (await process.communicate())[0].decode().strip()
