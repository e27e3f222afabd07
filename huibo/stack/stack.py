"""The three parts of a stack put together: configuration, start, supervision, stop.

Owns the run folder and what runs from it. Everything in it is generated; nothing outside it is touched.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from socket import SOCK_STREAM
from typing import Self

import aiohttp

import huibo
from huibo import config
from huibo.clock import Clock
from huibo.engine.install.binary import Asterisk
from huibo.engine.install.instance import Instance, render
from huibo.model import App, DisplayNumber, Trunk
from huibo.sandbox.carrier import Carrier, Terms
from huibo.stack import folders, ports
from huibo.stack.children import Child, ChildFailed, keep_alive
from huibo.storage import catalog
from huibo.storage.database import open_engine
from huibo.storage.migrate import migrate

DEMO_APP = App("demo", url_id="demo", name="Demo")
DEMO_NUMBERS = ("02131264133", "075561948986", "4001360123")
_ENGINE_TEMPLATES = Path(huibo.__file__).parent / "engine/ari/etc"
SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")  # Debian's and Ubuntu's
Settings = Mapping[str, Mapping[str, object]]

_RTP_FIRST, _RTP_LAST = 10000, 30000  # below the kernel's own range; Asterisk skips ports in use


@dataclass(frozen=True, slots=True)
class Ready:
    """What a script needs to know of a stack that answers (`./dev up --ready-file`)."""

    base_url: str
    app_id: str
    id: str
    pid: int
    engine_pid: int
    carrier_pid: int
    asterisk_version: str
    run_dir: str


class Stack:
    """A running stack: `async with Stack.create(…) as stack`; `stack.ready` tells what runs."""

    def __init__(
        self,
        asterisk: Asterisk,
        folder: Path,
        http_port: int | None,
        settings: Settings | None = None,
        more_carriers: Mapping[str, Terms] | None = None,
        ca_file: Path = SYSTEM_CA,
    ) -> None:
        free_http, engine_http, *tls = ports.free(*(SOCK_STREAM,) * 4)
        http_port = http_port or free_http
        self.asterisk = asterisk
        self.folder = folder
        self.base_url = f"http://127.0.0.1:{http_port}"
        terms = {"sandbox": Terms()} | dict(more_carriers or {})
        self.carriers = {name: self._carrier(name, asked) for name, asked in terms.items()}
        self._ari_password = secrets.token_hex(16)
        self.engine_url = f"http://127.0.0.1:{engine_http}"
        self._engine = Instance(asterisk, folder / "engine")
        self._engine.write(
            render(
                _ENGINE_TEMPLATES,
                {
                    "http_port": engine_http,
                    "sip_bind": f"127.0.0.1:{ports.free_in_both()}",
                    "tls_bind": f"127.0.0.1:{tls[0]}",
                    "tls_unverified_bind": f"127.0.0.1:{tls[1]}",
                    "ca_file": ca_file,
                    "rtp_start": _RTP_FIRST,
                    "rtp_end": _RTP_LAST,
                    "ari_app": "huibo",
                    "ari_username": "huibo",
                    "ari_password": self._ari_password,
                },
            )
        )
        # kept from one run to the next: the same words need not be spoken anew
        self._prompts = folder.parent.parent / "prompts"
        self.settings_file = folder / "huibo.toml"
        self._write_settings(http_port, settings or {})
        self.engine_child = self._asterisk_child("engine", self._engine)
        self.carrier_children = {
            name: self._asterisk_child(carrier.instance.folder.name, carrier.instance)
            for name, carrier in self.carriers.items()
        }
        self.control_child = self._control_plane()
        self._keepers: list[asyncio.Task[None]] = []
        self._ready_file: Path | None = None
        self.on_event: Callable[[str], None] = lambda _text: None  # a child died or came back

    @classmethod
    def create(
        cls,
        asterisk: Asterisk,
        cache: Path,
        http_port: int | None = None,
        settings: Settings | None = None,
        more_carriers: Mapping[str, Terms] | None = None,
        ca_file: Path = SYSTEM_CA,
    ) -> Stack:
        """Write a new run folder; nothing is started yet. `settings` by section go over the stack's own.

        `more_carriers`: beside the sandbox, by the names of their trunks, which are tried after it.
        `ca_file`: whom the engine trusts in TLS.
        """
        return cls(asterisk, folders.make(cache), http_port, settings, more_carriers, ca_file)

    @property
    def carrier(self) -> Carrier:
        """The sandbox."""
        return self.carriers["sandbox"]

    @property
    def carrier_child(self) -> Child:
        return self.carrier_children["sandbox"]

    @property
    def log(self) -> Path:
        """The control plane's log, one JSON object a line."""
        return self.control_child.log

    @property
    def ready(self) -> Ready:
        return Ready(
            base_url=self.base_url,
            app_id=DEMO_APP.app_id,
            id=DEMO_APP.url_id,
            pid=self.control_child.pid,
            engine_pid=self.engine_child.pid,
            carrier_pid=self.carrier_child.pid,
            asterisk_version=self.asterisk.version,
            run_dir=str(self.folder),
        )

    async def __aenter__(self) -> Self:
        try:
            self._seed()
            for child in self._children:
                await child.start()
            await asyncio.gather(*(child.wait_until_it_answers() for child in self._children))
        except BaseException:
            await self._stop()
            raise
        return self

    def supervise(self) -> None:
        """From now on start again what dies."""
        self._keepers = [
            asyncio.create_task(keep_alive(child, self._died, self._returned)) for child in self._children
        ]

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    def announce(self, ready_file: Path) -> None:
        """Write the ready file, and again whenever a child has been replaced."""
        self._ready_file = ready_file
        partial = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
        partial.write_text(json.dumps(asdict(self.ready)) + "\n")
        partial.replace(ready_file)

    @property
    def _children(self) -> tuple[Child, ...]:
        return self.engine_child, *self.carrier_children.values(), self.control_child

    async def _stop(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self.control_child.stop()  # first, so that it does not report the engine as lost
        others = (self.engine_child, *self.carrier_children.values())
        await asyncio.gather(*(child.stop() for child in others))
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
        for instance in (self._engine, *(carrier.instance for carrier in self.carriers.values())):
            if not instance.run.is_relative_to(self.folder):  # the path was too long for a socket
                shutil.rmtree(instance.run, ignore_errors=True)
        (self.folder / "up.pid").unlink(missing_ok=True)

    def _died(self, child: Child) -> None:
        assert child.process is not None
        self.on_event(f"{child.name} ended (exit code {child.process.returncode}), starting it again")

    async def _returned(self, child: Child) -> None:
        self.on_event(f"{child.name} is back, pid {child.pid}")
        if self._ready_file is None:
            return
        with suppress(ChildFailed):  # then it is its own keeper that announces
            await self.control_child.wait_until_it_answers()  # it has to find a new engine first
            self.announce(self._ready_file)

    def _carrier(self, name: str, terms: Terms) -> Carrier:
        folder = "carrier" if name == "sandbox" else f"carrier-{name}"
        return Carrier.create(self.asterisk, self.folder / folder, ports.free_in_both(), terms)

    def _asterisk_child(self, name: str, instance: Instance) -> Child:
        async def answers() -> bool:
            process = await asyncio.create_subprocess_exec(
                *instance.cli("core waitfullybooted"),
                env=instance.env,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            output, _ = await process.communicate()
            return b"fully booted" in output

        return Child(name, instance.argv, instance.env, self.folder / f"{name}.log", answers)

    def _control_plane(self) -> Child:
        env = dict(os.environ) | {
            "HUIBO_CONFIG": str(self.settings_file),
            "PYTHONPATH": str(Path(huibo.__file__).parents[1]),
        }
        argv = (sys.executable, "-m", "huibo", "serve")
        return Child("control plane", argv, env, self.folder / "huibo.log", self._control_answers)

    async def _control_answers(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
                session.get(f"{self.base_url}/readyz") as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _write_settings(self, http_port: int, settings: Settings) -> None:
        values: dict[str, dict[str, object]] = {
            "": {"database_url": f"sqlite:///{self.folder}/huibo.sqlite3"},
            "http": {"port": http_port},
            "engine": {"url": self.engine_url, "password": self._ari_password},
            "push": {"allowed_networks": ["127.0.0.0/8", "::1/128"]},
            "recording": {
                "folder": str(self.folder / "recordings"),
                "raw_folder": str(self.folder / "recordings-raw"),
            },
            "prompts": {"folder": str(self._prompts)},
            "log": {"format": "json"},
        }
        for section, own in settings.items():
            values[section] = values.get(section, {}) | dict(own)
        lines = []
        for section, chosen in values.items():
            lines += [f"\n[{section}]"] if section else []
            lines += [f"{name} = {json.dumps(value)}" for name, value in chosen.items()]
        with open(os.open(self.settings_file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")

    def _seed(self) -> None:
        """The demo app with its numbers, and the trunks to the carriers."""
        engine = open_engine(config.load(self.settings_file).database_url)
        migrate(engine)
        now = Clock().now_ms()
        with engine.begin() as connection:
            if catalog.find_app(connection, DEMO_APP.app_id) is None:
                catalog.add_app(connection, DEMO_APP, now)
                for number in DEMO_NUMBERS:
                    catalog.add_number(connection, DisplayNumber(number, apps=(DEMO_APP.app_id,)), now)
            for name, carrier in self.carriers.items():
                catalog.remove_trunk(connection, name)
                catalog.add_trunk(connection, _trunk_to(name, carrier), now)
        engine.dispose()


def _trunk_to(name: str, carrier: Carrier) -> Trunk:
    trunk = Trunk(name, "127.0.0.1", carrier.sip_port, priority=0 if name == "sandbox" else 1)
    if (account := carrier.terms.account) is None:
        return trunk
    return replace(trunk, username=account.username, password=account.password, register=account.register)
