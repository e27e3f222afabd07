"""Calls over TCP and TLS, with a password, and over a carrier that serves only who is registered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from socket import SOCK_STREAM

import pytest
import trustme

from huibo import config
from huibo.model import Transport, Trunk
from huibo.sandbox import journal
from huibo.sandbox.carrier import Account, Terms, Tls
from huibo.sandbox.journal import PhoneMoment
from huibo.stack.ports import free
from huibo.stack.stack import Stack
from huibo.storage import catalog
from huibo.storage.database import open_engine
from tests.integration.conftest import StartStack
from tests.integration.customer import Customer, Placed

USER, PASSWORD = "caller", "s3cret; =\\"
TALK = ("invite", "ringing", "answered", "disaccept")


@dataclass(frozen=True)
class Line:
    """A trunk of which a call is made: which carrier it leads to, what is told of the caller."""

    name: str
    carrier: str
    told: tuple[str, ...]
    transport: Transport = Transport.UDP
    verify_tls: bool = True
    password: str | None = None
    register: bool = False

    @property
    def numbers(self) -> tuple[str, str]:
        index = LINES.index(self)
        return f"1380000{index:02d}00", f"1390000{index:02d}01"


LINES = [
    Line("tcp", "sandbox", TALK, Transport.TCP),
    Line("tls", "known", TALK, Transport.TLS),
    Line("tls-stranger", "stranger", ("invite", "failed 503"), Transport.TLS),
    Line("tls-stranger-unverified", "stranger", TALK, Transport.TLS, verify_tls=False),
    Line("tls-other-name", "other-name", ("invite", "failed 503"), Transport.TLS),
    Line("digest", "account", TALK, password=PASSWORD),
    Line("digest-tcp", "account", TALK, Transport.TCP, password=PASSWORD),
    Line("digest-wrong", "account", ("invite", "failed 401"), password="wrong"),
    Line("registered", "registered", TALK, password=PASSWORD, register=True),
]
BY_NAME = {line.name: line for line in LINES}


@dataclass(frozen=True)
class Bench:
    stack: Stack
    customer: Customer
    calls: dict[str, Placed]


def tls(ca: trustme.CA, folder: Path, *names: str) -> Terms:
    """A carrier with a certificate of `ca` for these names."""
    (port,) = free(SOCK_STREAM)
    issued = ca.issue_cert(*names)
    folder.mkdir()
    issued.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return Terms(tls=Tls(port, folder / "certificate.pem", folder / "key.pem"))


@pytest.fixture(scope="module")
async def bench(
    start_stack: Callable[[AsyncExitStack], StartStack], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")
    carriers = {
        "known": tls(ours, folder / "known", "127.0.0.1"),
        "stranger": tls(theirs, folder / "stranger", "127.0.0.1"),
        "other-name": tls(ours, folder / "other", "sip.example.com"),
        "account": Terms(account=Account(USER, PASSWORD)),
        "registered": Terms(account=Account(USER, PASSWORD, register=True)),
    }
    async with AsyncExitStack() as exits:
        stack, customer = await start_stack(exits)(more_carriers=carriers, ca_file=folder / "ca.pem")
        enter(stack)
        await customer.until_ready()
        async with asyncio.timeout(20):  # until a carrier has been registered with, nothing can be dialled
            while (answer := await customer.post(customer.request(*BY_NAME["registered"].numbers)))[
                "errorCode"
            ] == "-3":
                await asyncio.sleep(0.2)
        registered = customer.calls[answer["callId"]]
        calls = {line.name: await customer.call(*line.numbers) for line in LINES[:-1]}
        yield Bench(stack, customer, calls | {"registered": registered})


def enter(stack: Stack) -> None:
    """Each line is the only trunk that serves its numbers."""
    database = open_engine(config.load(stack.settings_file).database_url)
    with database.begin() as connection:
        for name in stack.carriers:
            catalog.remove_trunk(connection, name)
        for line in LINES:
            catalog.add_trunk(connection, trunk_of(line, stack), 1)
    database.dispose()


def trunk_of(line: Line, stack: Stack) -> Trunk:
    carrier = stack.carriers[line.carrier]
    secure = carrier.terms.tls
    return Trunk(
        line.name,
        "127.0.0.1",
        secure.port if line.transport is Transport.TLS and secure else carrier.sip_port,
        username=USER if line.password else None,
        password=line.password,
        transport=line.transport,
        verify_tls=line.verify_tls,
        register=line.register,
        prefixes=tuple(f"86{number}" for number in line.numbers),
        options_s=0,
    )


@pytest.mark.parametrize("name", BY_NAME)
async def test_a_call_goes_over_it_or_is_refused(bench: Bench, name: str) -> None:
    line, call = BY_NAME[name], bench.calls[name]
    cdr = await call.cdr()
    assert tuple(t.removeprefix("src ") for t in call.told if t.startswith("src")) == line.told
    talked = line.told == TALK
    assert cdr["callEndStatus"] == ("1" if talked else "4")
    if talked:  # the callee's BYE came: nobody had to notice the silence
        assert int(cdr["endCallTime"]) - int(cdr["dstAcceptTime"]) <= 8
    invited = [
        (carrier, event.number)
        for carrier, one in bench.stack.carriers.items()
        for event in journal.read(one.calls_log)
        if event.event is PhoneMoment.INVITED and event.number in line.numbers
    ]
    assert invited == [(line.carrier, number) for number in line.numbers if talked]


async def test_by_tcp_means_by_tcp(bench: Bench) -> None:
    """The sandbox listens for both at one port: whether a connection was made tells."""
    await bench.calls["tcp"].cdr()
    port = f":{bench.stack.carrier.sip_port:04X}"
    tables = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    assert [line for line in tables if line[2].endswith(port)]  # it is kept open for the next call


async def test_who_is_not_registered_is_refused(bench: Bench) -> None:
    """The carrier's own rule; without it the test of registration would prove nothing."""
    await bench.calls["registered"].cdr()
    one = trunk_of(BY_NAME["registered"], bench.stack)
    database = open_engine(config.load(bench.stack.settings_file).database_url)
    with database.begin() as connection:
        catalog.remove_trunk(connection, one.name)
        plain = Trunk(
            "unregistered", one.host, one.port, username=USER, password=PASSWORD, prefixes=("861377",)
        )
        catalog.add_trunk(connection, plain, 1)
    database.dispose()
    async with asyncio.timeout(30):  # it says goodbye to the carrier when it is taken away
        while True:
            index = len(bench.customer.calls)
            call = await bench.customer.call(f"1377{index:05d}00", f"1377{index:05d}01")
            if (await call.cdr())["callEndStatus"] == "4":
                break
    assert call.told == ["src invite", "src failed 403"]
