"""Health for load balancers and supervisors: alive, and able to take calls."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

PATHS = ("/healthz", "/readyz")


def make_routes(
    engine_ready: Callable[[], bool], draining: Callable[[], bool], database_ready: Callable[[], bool]
) -> list[BaseRoute]:
    """`/healthz`: 200 while the process answers. `/readyz`: 200 when calls can be placed, else 503."""

    def hindrance() -> str | None:
        if draining():
            return "draining"
        if not database_ready():
            return "database out of reach"
        return None if engine_ready() else "no connection to Asterisk"

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def readyz(_request: Request) -> Response:
        if (reason := hindrance()) is None:
            return JSONResponse({"ready": True})
        return JSONResponse({"ready": False, "reason": reason}, status_code=503)

    return [Route(path, answer) for path, answer in zip(PATHS, (healthz, readyz), strict=True)]
