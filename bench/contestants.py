"""What is measured against what: huibo as it is shipped, and two that do less.

Each has an Asterisk of its own in the same configuration. Owns the processes; measures nothing.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import SOCK_STREAM

import huibo
from bench import ami
from bench.carrier import Carrier
from bench.server import APP, furnish
from huibo import config
from huibo.engine.install.binary import Asterisk
from huibo.engine.install.instance import Instance, Template, render
from huibo.model import Trunk
from huibo.stack.children import Child
from huibo.stack.ports import free, free_in_both
from huibo.stack.stack import SYSTEM_CA, Settings, Stack
from huibo.storage import catalog
from huibo.storage.database import open_engine

_TEMPLATES = Path(huibo.__file__).parent / "engine/ari/etc"
_ENDPOINT = """
[carrier]
type=aor
contact=sip:127.0.0.1:{port}
[carrier]
type=endpoint
transport=udp
context=nowhere
disallow=all
allow=alaw
aors=carrier
direct_media=no
"""


@dataclass(frozen=True, slots=True)
class Contestant:
    """`argv` places calls (bench.load's options are to be added); `pids`: what costs, beside argv's own.

    `drives`: argv's own process belongs to the contestant, for it carries the calls.
    """

    name: str
    argv: tuple[str, ...]
    pids: Mapping[str, int]
    carrier: Carrier
    drives: bool
    stack: Stack | None = None


@asynccontextmanager
async def with_asterisk(
    asterisk: Asterisk, folder: Path, carrier: Carrier, name: str, by_ami: bool
) -> AsyncIterator[Contestant]:
    """An Asterisk, and a script that drives it."""
    http, manager = free(SOCK_STREAM, SOCK_STREAM)
    tls = free(SOCK_STREAM, SOCK_STREAM)
    files = render(
        _TEMPLATES,
        {
            "http_port": http,
            "sip_bind": f"127.0.0.1:{free_in_both()}",
            "tls_bind": f"127.0.0.1:{tls[0]}",
            "tls_unverified_bind": f"127.0.0.1:{tls[1]}",
            "ca_file": SYSTEM_CA,
            "rtp_start": 10000,
            "rtp_end": 30000,
            "ari_app": "bare",
            "ari_username": "bench",
            "ari_password": "bench",
        },
    )
    files["pjsip.conf"] += _ENDPOINT.format(port=carrier.port)
    if by_ami:
        files["manager.conf"] = Template(ami.MANAGER).substitute(ami_port=manager)
        files["extensions.conf"] += ami.DIALPLAN
        files["modules.conf"] += "load=app_dial.so\n"
        files["stasis.conf"] = "".join(
            line for line in files["stasis.conf"].splitlines(True) if not any(n in line for n in ami.NEEDS)
        )
    instance = Instance(asterisk, folder)
    instance.write(files)
    child = Child(name, instance.argv, instance.env, folder / "output", lambda: _booted(instance))
    await child.start()
    try:
        await child.wait_until_it_answers()
        module, port = ("bench.ami", manager) if by_ami else ("bench.bare", http)
        argv = (sys.executable, "-m", module, "--port", str(port))
        yield Contestant(name, argv, {"asterisk": child.pid}, carrier, drives=True)
    finally:
        await child.stop()
        if not instance.run.is_relative_to(folder):
            shutil.rmtree(instance.run, ignore_errors=True)


@asynccontextmanager
async def with_huibo(
    asterisk: Asterisk,
    folder: Path,
    carrier: Carrier,
    name: str,
    fields: Mapping[str, str],
    settings: Settings | None = None,
) -> AsyncIterator[Contestant]:
    """`fields`: of each request, beside its numbers. `settings`: over the stack's."""
    trunk = Trunk("carrier", "127.0.0.1", carrier.port, options_s=0)
    async with stack_with(asterisk, folder, trunk, settings) as stack:
        pids = {"control plane": stack.control_child.pid, "asterisk": stack.engine_child.pid}
        yield Contestant(name, client_of(stack, fields), pids, carrier, drives=False, stack=stack)


@asynccontextmanager
async def stack_with(
    asterisk: Asterisk, folder: Path, trunk: Trunk, settings: Settings | None = None
) -> AsyncIterator[Stack]:
    """huibo with an app that may do anything, and with this trunk alone."""
    stack = Stack.create(asterisk, folder, settings=settings or {})
    async with stack:
        engine = open_engine(config.load(stack.settings_file).database_url)
        with engine.begin() as connection:
            catalog.remove_trunk(connection, "sandbox")
            furnish(connection, trunk)
        engine.dispose()
        yield stack


def client_of(stack: Stack, fields: Mapping[str, str]) -> tuple[str, ...]:
    """The words that place calls there; bench.load's options are to be added."""
    return (
        *(sys.executable, "-m", "bench.client", "--port", stack.base_url.rpartition(":")[2]),
        *("--app", APP, "--fields", json.dumps(dict(fields))),
    )


async def _booted(instance: Instance) -> bool:
    process = await asyncio.create_subprocess_exec(
        *instance.cli("core waitfullybooted"),
        env=instance.env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    return b"fully booted" in output
