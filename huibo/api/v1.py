"""The operators' own API: its routes as one application, to be mounted at /v1, and its OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware

from huibo import __version__
from huibo.api import (
    accounts,
    apps,
    audit,
    blacklist,
    calls,
    cells,
    locks,
    numbers,
    pushes,
    rates,
    tokens,
    trunks,
)
from huibo.api.guard import Guard
from huibo.api.parts import Parts
from huibo.api.problems import HANDLERS, Problem, documented

_OPENAPI = "/openapi.json"
_ROUTERS = (
    *(apps.router, numbers.router, trunks.router, rates.router, accounts.router),
    *(blacklist.router, locks.router, calls.router, pushes.router),
    *(tokens.router, audit.router, cells.router),
)
_DESCRIPTION = """What an operator does. Times are UNIX milliseconds, money is 1/1000 fen (1 yuan = 100000).
Lists come in pages: `next` of one is the `cursor` of the following. Errors are problems (RFC 9457)."""


class V1(FastAPI):
    """FastAPI, but its document speaks of problems and not of FastAPI's own errors."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = _document(self)
        return self.openapi_schema


def make_app(parts: Parts) -> FastAPI:
    guard = Middleware(
        Guard,
        database=parts.database,
        clock=parts.clock,
        max_body_bytes=parts.max_body_bytes,
        body_timeout_s=parts.body_timeout_s,
        open_to_all=(_OPENAPI,),
        files=(blacklist.IMPORT_PATH,),
    )
    app = V1(
        title="huibo",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=_OPENAPI,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": "/v1"}],
        root_path_in_servers=False,
        middleware=[guard],
        exception_handlers=HANDLERS,
        responses=documented(400, 401, 403, 422),
    )
    app.state.parts = parts
    for router in _ROUTERS:
        app.include_router(router)
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        servers=app.servers,
    )
    schemas = document["components"]["schemas"]
    for own in ("HTTPValidationError", "ValidationError"):
        schemas.pop(own, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs") | {"Problem": problem}
    for operations in document["paths"].values():
        for operation in operations.values():
            if "requestBody" in operation:
                operation["responses"] |= _with_text_keys(documented(408, 413, 415))
    return document


def _with_text_keys(responses: dict[int | str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(status): response for status, response in responses.items()}
