"""The sandbox carrier on a real Asterisk: every phone of the table, as another SIP phone sees and hears it.

All calls are placed at once by one fixture; each test then looks at what it kept.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from huibo.engine.install.binary import Asterisk
from huibo.sandbox import journal
from huibo.sandbox.carrier import Carrier
from huibo.sandbox.journal import PhoneEvent
from huibo.sandbox.tones import dominant, hear_each_other, hears, tone_of
from huibo.stack.children import Child
from tests.integration.softphone import RATE, Call, ask_options

SPEAKS_HZ = 1230  # what the calling phones say; 13800138xxx have other tones
SLOW_S = 1.5  # how much later than meant things may happen here
EARLY_S = 0.1

# What the other side sees: the responses to its INVITE, and seconds from it to the final one.
PRESSING = {f"1{key}": str(key) * 3 for key in range(10)} | {
    "20": "***",
    "21": "###",
    "22": "AAA",
    "23": "911",
}
ANSWERING = {"00": 1.0, "01": 1.0, "02": 1.0, "03": 5.0, "24": 1.0} | dict.fromkeys(PRESSING, 1.0)
REFUSING = {
    "05": ([486], 0.0),
    "06": ([180, 603], 2.0),
    "07": ([404], 0.0),
    "08": ([183, 480], 4.0),
    "09": ([503], 0.0),
    "25": ([480], 0.0),
    "26": ([500], 0.0),
    "27": ([180, 503], 2.0),
    "28": ([404], 0.0),
    "99": ([404], 0.0),
}
HANGING_UP = {"01": 5.0, "02": 15.0}
LANDLINE, LONG = "01088880000", "075512345600"


def number_of(digits: str) -> str:
    return f"138001380{digits}"


def caller_of(number: str) -> str:
    """A caller id of the number's own, so that the log can be asked for it."""
    return f"0755{number[-8:]}"


@dataclass
class Network:
    """A running carrier, the calls that were made to it, and its log after them."""

    carrier: Carrier
    pid: int
    calls: dict[str, Call]  # by number
    events: list[PhoneEvent]
    listening: set[str]  # local addresses of its SIP and RTP sockets while calls were up

    def call(self, digits: str) -> Call:
        return self.calls[number_of(digits)]

    def of(self, number: str) -> list[PhoneEvent]:
        return [event for event in self.events if event.number == number]

    def heard(self, number: str) -> Path:
        return self.carrier.heard_dir / next(event.heard for event in self.of(number) if event.heard)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(carrier: Carrier) -> AsyncIterator[int]:
    """The carrier's Asterisk, up and answering; yields its pid."""

    async def answers() -> bool:
        try:
            return await ask_options(carrier.sip_port) == 200
        except TimeoutError:
            return False

    instance = carrier.instance
    child = Child("carrier", instance.argv, instance.env, instance.folder / "output", answers)
    await child.start()
    try:
        await child.wait_until_it_answers()
        yield child.pid
    finally:
        await child.stop()


async def over(log: Path, calls: int) -> list[PhoneEvent]:
    """The log once so many calls in it are over."""
    events, ended = [], 0
    async with asyncio.timeout(30):
        async for event in journal.follow(log):
            events.append(event)
            ended += event.event in ("hung_up", "refused")
            if ended == calls:
                break
    return events


async def listen(call: Call, seconds: float) -> None:
    await call.until_final()
    await call.audio.until_heard(seconds)


async def hear_the_outcome(call: Call) -> None:
    await call.until_final()


async def be_left(call: Call) -> None:
    await call.until_bye()


async def take_three_keys(call: Call) -> None:
    await call.until_final()
    await call.audio.until(lambda: len(call.audio.keys) == 3)
    await call.audio.until_heard(10.5)


async def hear_nothing(call: Call) -> None:
    await call.until_final()
    await asyncio.sleep(4)


async def ring_in_vain(call: Call) -> None:
    await call.until_ringing()
    await asyncio.sleep(6)


async def give_up(call: Call) -> None:
    await call.until_ringing()


async def leave_while_the_key_is_down(call: Call) -> None:
    await call.until_final()
    await call.audio.until(lambda: len(call.audio.keys) == 1)


async def leave_when_the_key_is_up(call: Call) -> None:
    await call.until_final()
    await call.audio.until(lambda: call.audio.keys_up == 1)


PLANS: dict[str, Callable[[Call], Awaitable[None]]] = {
    number_of("00"): lambda call: listen(call, 4),
    number_of("03"): lambda call: listen(call, 2),
    number_of("04"): ring_in_vain,
    number_of("24"): hear_nothing,
    **{number_of(digits): be_left for digits in HANGING_UP},
    **{number_of(digits): hear_the_outcome for digits in REFUSING},
    **{number_of(digits): take_three_keys for digits in PRESSING},
    "13900139003": give_up,
    "13900139010": leave_while_the_key_is_down,
    "13900139019": leave_when_the_key_is_up,
    LANDLINE: lambda call: listen(call, 2),
    LONG: lambda call: listen(call, 2),
    "7": hear_the_outcome,
    "1380013a000": hear_the_outcome,
}


@pytest.fixture(scope="module")
async def network(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    """All plans carried out at the same time on one carrier."""
    folder = tmp_path_factory.mktemp("sandbox")
    carrier = Carrier.create(asterisk, folder / "沙箱", free_port())
    calls: dict[str, Call] = {}

    async def carry_out(number: str) -> None:
        speaks = SPEAKS_HZ if number[-2:] in ("00", "01", "10", "24") else None
        async with await Call.place(carrier.sip_port, number, caller_of(number), speaks) as call:
            calls[number] = call
            await PLANS[number](call)

    async def look_at_sockets(pid: int) -> set[str]:
        await asyncio.sleep(3)
        return local_addresses(pid, {carrier.sip_port, *range(10000, 30001)})

    async with running(carrier) as pid:
        looking = asyncio.create_task(look_at_sockets(pid))
        await asyncio.gather(*map(carry_out, PLANS))
        events = await over(carrier.calls_log, len(PLANS))
        yield Network(carrier, pid, calls, events, await looking)


def local_addresses(pid: int, ports: Container[int]) -> set[str]:
    """The local addresses (hex, as the kernel writes them) on which a process has those ports open."""
    links = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    addresses = set()
    for table in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if f"socket:[{fields[9]}]" in links and int(port, 16) in ports:
                addresses.add(address)
    return addresses


@pytest.mark.parametrize("digits", ANSWERING)
def test_it_rings_and_answers_in_time(network: Network, digits: str) -> None:
    call = network.call(digits)
    assert call.codes == [180, 200]
    assert -EARLY_S < call.after(180) < SLOW_S
    assert -EARLY_S < call.after(200) - ANSWERING[digits] < SLOW_S


@pytest.mark.parametrize("digits", REFUSING)
def test_it_refuses_with_the_code_of_the_table(network: Network, digits: str) -> None:
    codes, after = REFUSING[digits]
    call = network.call(digits)
    assert call.codes == codes
    assert -EARLY_S < call.after(codes[-1]) - after < SLOW_S


@pytest.mark.parametrize("number", ["7", "1380013a000"])
def test_what_is_no_number_is_not_found(network: Network, number: str) -> None:
    assert network.calls[number].codes == [404]


def test_04_rings_until_the_caller_gives_up(network: Network) -> None:
    assert network.call("04").codes == [180, 487]
    assert network.call("04").after(487) > 6


@pytest.mark.parametrize("digits", HANGING_UP)
def test_it_hangs_up_in_time(network: Network, digits: str) -> None:
    call = network.call(digits)
    assert call.bye_at is not None
    talked = call.bye_at - call.placed_at - call.after(200)
    assert -EARLY_S < talked - HANGING_UP[digits] < SLOW_S


@pytest.mark.parametrize("digits", ["00", "03", *PRESSING])
def test_it_stays_until_the_other_side_hangs_up(network: Network, digits: str) -> None:
    assert network.call(digits).bye_at is None
    assert network.of(number_of(digits))[-1].by == "network"


@pytest.mark.parametrize("number", [*map(number_of, ("00", "01", "02", "03", "19", "22")), LANDLINE, LONG])
def test_it_says_its_own_tone_and_nothing_else(network: Network, number: str) -> None:
    said = network.calls[number].audio.samples
    tone = 400 + 10 * (int(number) % 241)
    found = hears(said, tone)
    assert found.seconds > 0.95 * len(said) / RATE
    assert found.share > 0.95
    assert -20 < found.level_db < -8
    assert all(piece.hz is not None and abs(piece.hz - tone) <= 2 for piece in dominant(said))


@pytest.mark.parametrize("digits", ["00", "03"])
def test_the_tone_begins_with_the_answer_although_the_other_side_sends_nothing_yet(
    network: Network, digits: str
) -> None:
    call = network.call(digits)
    assert -EARLY_S < call.audio.packets[0].at - call.placed_at - call.after(200) < 0.45


@pytest.mark.parametrize("digits", PRESSING)
def test_it_presses_its_keys_two_seconds_after_the_answer_and_then_every_four(
    network: Network, digits: str
) -> None:
    call = network.call(digits)
    keys = call.audio.keys
    assert "".join(key for _, key in keys) == PRESSING[digits]
    for nth, (at, _) in enumerate(keys):
        assert -EARLY_S < at - call.placed_at - call.after(200) - (2 + 4 * nth) < SLOW_S
    assert [event.key for event in network.of(number_of(digits)) if event.key] == list(PRESSING[digits])


@pytest.mark.parametrize("digits", PRESSING)
def test_its_tone_goes_on_between_and_after_the_keys(network: Network, digits: str) -> None:
    said = network.call(digits).audio.samples
    tone = tone_of(number_of(digits))
    assert hears(said, tone).seconds > 0.9 * len(said) / RATE
    assert hears(said[-RATE // 2 :], tone).seconds > 0.4


def test_24_sends_no_packet_and_hears_all_the_same(network: Network) -> None:
    assert network.call("24").audio.packets == []
    assert hears(network.heard(number_of("24")), SPEAKS_HZ).seconds > 3


def test_08_announces_before_an_answer(network: Network) -> None:
    call = network.call("08")
    early = next(response for response in call.responses if response.code == 183)
    assert early.media
    assert call.final
    assert -EARLY_S < call.audio.packets[0].at - early.at < 0.5
    assert call.audio.packets[-1].at < call.final.at + 0.3
    said = call.audio.samples
    assert len(said) > 3.5 * RATE
    for begin in (0.0, 1.99):  # 950, 1400, 1800 Hz, 330 ms each, and a second of silence
        for nth, hz in enumerate((950, 1400, 1800)):
            part = said[int((begin + nth * 0.33 + 0.05) * RATE) :][: RATE // 4]
            assert abs(int(np.abs(np.fft.rfft(part)).argmax()) * 4 - hz) <= 4
        assert np.abs(said[int((begin + 1.05) * RATE) :][: RATE // 2]).max() < 0.01


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (number_of("00"), ["invited", "ringing", "answered", "hung_up network"]),
        (number_of("01"), ["invited", "ringing", "answered", "hung_up phone"]),
        (number_of("02"), ["invited", "ringing", "answered", "hung_up phone"]),
        (number_of("04"), ["invited", "ringing", "hung_up network"]),
        ("13900139003", ["invited", "ringing", "hung_up network"]),
        ("13900139010", ["invited", "ringing", "answered", "pressed 0", "hung_up network"]),
        ("13900139019", ["invited", "ringing", "answered", "pressed 9", "hung_up network"]),
        (number_of("05"), ["invited", "refused 486"]),
        (number_of("06"), ["invited", "ringing", "refused 603"]),
        (number_of("08"), ["invited", "early_media", "refused 480"]),
        (
            number_of("23"),
            ["invited", "ringing", "answered", "pressed 9", "pressed 1", "pressed 1", "hung_up network"],
        ),
        (number_of("24"), ["invited", "ringing", "answered", "hung_up network"]),
        (number_of("27"), ["invited", "ringing", "refused 503"]),
        (number_of("99"), ["invited", "refused 404"]),
        (LANDLINE, ["invited", "ringing", "answered", "hung_up network"]),
        ("7", ["invited", "refused 404"]),
    ],
)
def test_the_log_tells_each_moment_once(network: Network, number: str, told: list[str]) -> None:
    events = network.of(number)
    words = [f"{one.event} {one.by or one.code or one.key or ''}".strip() for one in events]
    assert words == told
    assert {one.caller for one in events} == {caller_of(number)}
    assert len({one.call for one in events}) == 1
    assert [one.at for one in events] == sorted(one.at for one in events)


def test_the_log_has_the_times_that_the_other_side_saw(network: Network) -> None:
    moments = {event.event.value: event.at for event in network.of(number_of("01"))}
    assert -EARLY_S < (moments["answered"] - moments["ringing"]).total_seconds() - 1 < SLOW_S
    assert -EARLY_S < (moments["hung_up"] - moments["answered"]).total_seconds() - 5 < SLOW_S


def test_the_phones_recorded_what_they_heard(network: Network) -> None:
    heard = hears(network.heard(number_of("01")), SPEAKS_HZ)
    assert heard.seconds > 4.5
    assert heard.share > 0.95
    assert hears(network.heard(number_of("01")), tone_of(number_of("01"))).seconds == 0
    assert hears(network.heard(number_of("02")), SPEAKS_HZ).seconds == 0


def test_every_call_has_an_id_and_a_recording_of_its_own(network: Network) -> None:
    ended = [event for event in network.events if event.event in ("hung_up", "refused")]
    assert len({event.call for event in ended}) == len(ended) == len(PLANS)
    recordings = [event.heard for event in network.events if event.heard]
    assert len(set(recordings)) == len(recordings) == len(ANSWERING) + 4
    assert sorted(file.name for file in network.carrier.heard_dir.iterdir()) == sorted(recordings)


def test_sip_and_audio_are_on_loopback_alone(network: Network) -> None:
    assert network.listening == {"0100007F"}


async def test_options_are_answered(network: Network) -> None:
    assert await ask_options(network.carrier.sip_port) == 200


async def at_once(network: Network, numbers: list[str], do: Callable[[Call], Awaitable[None]]) -> set[str]:
    """What the log tells of each of these calls, all placed at the same moment."""

    async def one(number: str) -> None:
        async with await Call.place(network.carrier.sip_port, number, caller_of(number)) as call:
            await do(call)

    following = journal.follow(network.carrier.calls_log, from_end=True)
    await asyncio.gather(*map(one, numbers))
    told: dict[str, str] = dict.fromkeys(numbers, "")
    async with asyncio.timeout(30):
        async for event in following:
            told[event.number] += f" {event.event}"
            if all(words.endswith("hung_up") for words in told.values()):
                break
    return set(told.values())


async def test_a_hundred_calls_that_end_with_their_answer_leave_whole_lines(network: Network) -> None:
    before = len(journal.read(network.carrier.calls_log))
    numbers = [f"139{n:06d}00" for n in range(100)]
    assert await at_once(network, numbers, hear_the_outcome) == {" invited ringing answered hung_up"}
    lines = network.carrier.calls_log.read_bytes().split(b"\n")
    assert lines[-1] == b""
    assert len(lines) - 1 == before + 4 * len(numbers)


async def test_calls_that_are_given_up_at_once_are_told_too(network: Network) -> None:
    async def give_up_at_once(call: Call) -> None:
        await call.until(lambda: bool(call.responses))

    numbers = [f"138{n:06d}04" for n in range(50)]
    told = await at_once(network, numbers, give_up_at_once)
    assert told <= {" invited hung_up", " invited ringing hung_up"}


async def test_the_keys_end_after_their_minute(asterisk: Asterisk, tmp_path: Path) -> None:
    """The minute is passed ten times as fast: 0.4 s between keys in place of 4."""
    carrier = Carrier.create(asterisk, tmp_path / "carrier", free_port())
    plan = carrier.instance.etc / "extensions.conf"
    slow = plan.read_text()
    assert slow.count(" + 4 * ${PRESSES}") == 1
    plan.write_text(slow.replace(" + 4 * ${PRESSES}", " + 0.4 * ${PRESSES}"))
    async with (
        running(carrier),
        await Call.place(carrier.sip_port, number_of("21"), speaks=SPEAKS_HZ) as call,
    ):
        await call.until_final()
        await call.audio.until(lambda: len(call.audio.keys) == 15)
        await asyncio.sleep(2)
        assert len(call.audio.keys) == 15
        assert call.bye_at is None
        assert hears(call.audio.samples[-RATE:], tone_of(number_of("21"))).seconds > 0.9


async def test_two_calls_that_are_joined_can_be_told_apart(network: Network) -> None:
    """What the demo proves, with the softphones in place of the engine: each leg is sent the other's tone."""
    a, b = "13800138000", "13900139000"

    async def one(number: str, other: str) -> None:
        async with await Call.place(network.carrier.sip_port, number, number, tone_of(other)) as call:
            await listen(call, 2)

    following = journal.follow(network.carrier.calls_log, from_end=True)
    await asyncio.gather(one(a, b), one(b, a))
    files: dict[str, Path] = {}
    ended = 0
    async with asyncio.timeout(30):
        async for event in following:
            if event.heard:
                files[event.number] = network.carrier.heard_dir / event.heard
            ended += event.event == "hung_up"
            if ended == 2:
                break
    assert all(heard.seconds > 1.5 for heard in hear_each_other(a, files[a], b, files[b]))
    assert not any(hear_each_other(a, files[b], b, files[a]))


def test_its_log_is_silent(network: Network) -> None:
    """After everything that it was put to here."""
    said = network.carrier.instance.log.read_text()
    assert [line for line in said.splitlines() if "WARNING" in line or "ERROR" in line] == []
