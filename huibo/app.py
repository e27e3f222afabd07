"""The composition root: builds one huibo process from its settings and runs it.

The only place that knows every part. Contains wiring, no behaviour.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import ASGIApp

from huibo import __version__
from huibo.admission.abuse import Abuse
from huibo.admission.admit import Admission
from huibo.api import health
from huibo.api.mount import OperatorsApi
from huibo.cells import Cells
from huibo.clock import Clock
from huibo.config import Settings
from huibo.desk import Desk
from huibo.engine.ari.adapter import AriEngine
from huibo.engine.install import InstallError
from huibo.flow.live import LiveCalls
from huibo.flow.runner import Services
from huibo.flow.state import CallState
from huibo.http.connections import Connections
from huibo.http.flood import FloodGate
from huibo.http.tls import encrypted
from huibo.lines.book import TrunkBook
from huibo.lines.gate import Gate
from huibo.lines.watch import Watch
from huibo.model import Call, Cdr
from huibo.prompts.choose import library_of
from huibo.prompts.menu import MenuPrompts, write_warning_tone
from huibo.push.delivery import Deliverer
from huibo.recording import routes as recordings
from huibo.recording.attempt import Means
from huibo.recording.raw import RawRecordings
from huibo.recording.retention import Retention
from huibo.recording.store import LocalStore
from huibo.recording.worker import Finisher
from huibo.storage.catalog import TRUNKS_CHANGED
from huibo.storage.cells import Cell
from huibo.storage.database import Database
from huibo.storage.migrate import is_current, migrate
from huibo.storage.notices import Listener
from huibo.storage.pushes import PUSHES_OWED
from huibo.wire import routes as wire
from huibo.wire.http11 import limited
from huibo.wire.notifier import WireNotifier

log = structlog.get_logger()

_SETTLED_S = 1.0  # after its start a process has taken up the calls that there were


class Huibo:
    """One control plane. `http` is its ASGI application; `failed` is what ended it, if anything did."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        make_engine: Callable[..., AriEngine] = AriEngine,
    ) -> None:
        self.settings = settings
        self.failed: BaseException | None = None
        self._server: uvicorn.Server | None = None
        self.clock = clock or Clock()
        self.database = Database(settings.database_url)
        raw = RawRecordings(settings.recording.raw_folder)
        warning = settings.prompts.folder / "warning.wav"
        write_warning_tone(warning)
        self.trunks = TrunkBook(self.database, settings.trunks.look_s)
        self.engine = make_engine(
            settings.engine, settings.calls.no_audio_s, self.clock, raw, warning, self.trunks.find
        )
        self.trunks.on_change = self.engine.know_trunks
        self.deliverer = Deliverer(self.database, settings.push, self.clock, settings.cell.name)
        self.library = library_of(settings.prompts)
        notifier, store = WireNotifier(), LocalStore(settings.recording.folder)
        self.store = store
        self.finisher = Finisher(
            Means(
                self.database,
                settings.recording,
                self.clock,
                raw,
                store,
                notifier,
                settings.http.base_url,
                pushes_owed=self.deliverer.wake,
                cell=settings.cell.name,
            )
        )
        self.retention = Retention(self.database, settings.recording, self.clock, raw, store)
        self.abuse = Abuse(self.database, self.clock, settings.abuse)
        services = Services(
            self.engine,
            self.database,
            self.clock,
            Gate(self.database, self.trunks, self.engine, self.clock),
            notifier,
            MenuPrompts(self.library),
            pushes_owed=self.deliverer.hand_over,
            recording_owed=self.finisher.wake,
            stepped=Watch(self.database, self.trunks, self.clock, settings.trunks).on_step,
            call_over=self._call_over,
        )
        cell = settings.cell.name
        self.live = LiveCalls(services, cell)
        self.listener = Listener(self.database.engine)
        self.listener.on(TRUNKS_CHANGED, self.trunks.wake)
        self.listener.on(PUSHES_OWED, self.deliverer.wake)
        self.cells = Cells(self.database, self.clock, settings.cell, self.live, self._about, self.listener)
        self.admission = Admission(
            self.database, self.engine, self.clock, settings.calls, cell, lambda: self.cells.draining
        )
        self.desk = Desk(
            self.admission, self.abuse, self.live, self.cells, self.database, settings.http.base_url
        )
        self.operators = OperatorsApi(self._operators_api)
        self.http = self._http()

    def serve(self) -> None:
        """Run until SIGTERM or SIGINT. Raises what made it impossible to go on (`UnsuitableAsterisk`, …)."""
        http = self.settings.http
        connections = Connections(http)
        connections.reserve_files()
        protocol: type[asyncio.Protocol] = limited(connections)
        if http.tls_certificate:
            protocol = encrypted(protocol, connections, http.tls_certificate, http.tls_key)
        config = uvicorn.Config(
            self.http,
            host=http.host,
            port=http.port,
            loop="uvloop",
            http=protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(http.trusted_proxies),
            forwarded_allow_ips=http.trusted_proxies,
            timeout_keep_alive=http.idle_timeout_s,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        for told in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it once more when it is done
            signal.signal(told, lambda *_: sys.exit(0))
        self.cells.enter()
        self._server.run()
        if self.failed is not None:
            raise self.failed

    def _http(self) -> ASGIApp:
        """The callback API comes first: it is asked with every call, and has no need of a framework."""
        settings = self.settings.http
        app = wire.make_app(
            self.desk,
            otherwise=self._other_http(),
            max_body_bytes=settings.max_body_bytes,
            max_talk_min=self.settings.calls.max_talk_min,
            body_timeout_s=settings.body_timeout_s,
        )
        if not settings.requests_per_s:
            return app
        return FloodGate(app, settings.requests_per_s, refusal=_too_many, open_to_all=health.PATHS)

    def _other_http(self) -> Starlette:
        app = Starlette(lifespan=self._lifespan)
        app.routes.append(wire.describing(self.settings.calls.max_talk_min))
        app.routes.extend(
            health.make_routes(
                lambda: self.engine.ready, lambda: self.cells.draining, lambda: self.cells.in_touch
            )
        )
        app.routes.append(self.operators.route())
        app.routes.extend(recordings.make_routes(self.database, self.store, self.clock))
        return app

    def _about(self) -> Cell:
        """What this process tells the others of itself."""
        url, ready = self.settings.http.base_url, self.engine.ready
        return Cell(self.settings.cell.name, url, __version__, ready, len(self.live))

    def _operators_api(self) -> ASGIApp:
        from huibo.api import v1  # see `OperatorsApi`
        from huibo.api.parts import Parts

        settings = self.settings
        parts = Parts(
            database=self.database,
            clock=self.clock,
            engine=self.engine,
            desk=self.desk,
            admission=self.admission,
            about=self._about,
            trunks=self.trunks,
            pushes_owed=self.deliverer.wake,
            base_url=settings.http.base_url,
            max_talk_s=settings.calls.max_talk_min * 60,
            keep_old_secret_s=settings.push.keep_old_secret_s,
            max_body_bytes=settings.http.max_body_bytes,
            max_import_bytes=settings.http.max_import_bytes,
            body_timeout_s=settings.http.body_timeout_s,
        )
        return v1.make_app(parts)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        if not await asyncio.to_thread(is_current, self.database.engine):
            await asyncio.to_thread(migrate, self.database.engine)
        await self.library.start()
        await self.trunks.refresh()  # before there is an engine: it is to have all of them at once
        await self.cells.inherit()
        await self.live.recover()
        tasks = [
            asyncio.create_task(self.cells.run(), name="cells"),
            asyncio.create_task(self.cells.heed(), name="draining"),
            asyncio.create_task(self.listener.run(), name="listener"),
            asyncio.create_task(self.trunks.run(), name="trunks"),
            asyncio.create_task(self.engine.run(self.live), name="engine"),
            asyncio.create_task(self.deliverer.run(), name="deliverer"),
            asyncio.create_task(self.finisher.run(), name="finisher"),
            asyncio.create_task(self.retention.run(), name="retention"),
            asyncio.create_task(self._settle(), name="settling"),
        ]
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            yield
        finally:
            await self.live.close()  # what has been begun is told to the engine yet
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.library.close()
            await self.cells.close()
            await self.database.close()

    async def _settle(self) -> None:
        """What can wait until the calls that there were have been taken up."""
        await asyncio.sleep(_SETTLED_S)
        await self.operators.load()
        gc.freeze()  # all this stays: no search for garbage need ever look at it
        gc.enable()

    def _call_over(self, call: Call, state: CallState, cdr: Cdr) -> None:
        """What is to be learnt from the end of a call."""
        self.abuse.call_over(call, cdr)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part that ends by itself takes the process with it: its supervisor is to know."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self.failed = self.failed or error
        if not isinstance(error, InstallError):
            log.error("part failed", part=task.get_name(), exc_info=error)
        if self._server is not None:
            self._server.should_exit = True


def _too_many(path: str, wait_s: int) -> Response:
    """What is answered to a request beyond the rate, by the API that it is for."""
    if (answer := wire.one_too_many(path)) is not None:
        return answer
    from huibo.api import problems  # see `OperatorsApi`

    return problems.answer(
        HTTPStatus.TOO_MANY_REQUESTS, "too many requests from this address", {"retry-after": str(wait_s)}
    )
