"""Health for load balancers and supervisors: alive, and able to take calls."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

PATHS = ("/healthz", "/readyz")


def make_routes(engine_ready: Callable[[], bool]) -> list[BaseRoute]:
    """`/healthz`: 200 while the process answers. `/readyz`: 200 when calls can be placed, else 503."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def readyz(_request: Request) -> Response:
        if engine_ready():
            return JSONResponse({"ready": True})
        return JSONResponse({"ready": False, "reason": "no connection to Asterisk"}, status_code=503)

    return [Route(path, answer) for path, answer in zip(PATHS, (healthz, readyz), strict=True)]
