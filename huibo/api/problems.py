"""Errors as RFC 9457 says: one JSON form for all of them, with the status that fits.

Says nothing of what a request contained: there may be a secret in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from huibo.errors import Refusal, Refused
from huibo.office.errors import Invalid, NotFound
from huibo.storage.catalog import Conflict

MEDIA_TYPE = "application/problem+json"

# What a customer is answered with a code, an operator is with a status; all others are a conflict (409).
_REFUSED: dict[Refusal, HTTPStatus] = {
    **dict.fromkeys((Refusal.NO_LINE, Refusal.UNAVAILABLE), HTTPStatus.SERVICE_UNAVAILABLE),
    **dict.fromkeys(
        (Refusal.PARAMETER, Refusal.NUMBER, Refusal.DISPLAY_NUMBER, Refusal.URL, Refusal.BIZ_ID, Refusal.APP),
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
}


class Fault(BaseModel):
    """A value that cannot be: where it stands, and why."""

    field: str
    message: str


class Problem(BaseModel):
    """What went wrong. `errors`: the values at fault; `rule` and `code`: the check that refused a call."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None
    rule: str | None = Field(None, examples=["blacklist"])
    code: str | None = Field(None, description="what a customer is answered", examples=["-110"])


def answer(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """A problem as a response."""
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, **more)
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE)


async def on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return answer(error.status_code, str(error.detail), error.headers)


async def on_not_found(_request: Request, error: Exception) -> Response:
    return answer(HTTPStatus.NOT_FOUND, str(error))


async def on_conflict(_request: Request, error: Exception) -> Response:
    return answer(HTTPStatus.CONFLICT, str(error))


async def on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Invalid)
    fault = Fault(field=error.field, message=error.message)
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), errors=[fault])


async def on_refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    status = _REFUSED.get(error.refusal, HTTPStatus.CONFLICT)
    return answer(status, error.message, rule=error.rule, code=error.refusal.code)


async def on_validation(request: Request, error: Exception) -> Response:
    """What pydantic found; a body that is no JSON at all is another matter."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        return answer(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {found[0]['ctx']['error']}")
    if found[0]["loc"] == ("body",) and not _says_json(request):
        return answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON, with Content-Type: application/json")
    faults = [_fault(one) for one in found]
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=faults)


def _says_json(request: Request) -> bool:
    return "json" in request.headers.get("content-type", "").lower()


def _fault(one: Mapping[str, Any]) -> Fault:
    place = [str(part) for part in one["loc"]]
    return Fault(field=".".join(place[1:]) or place[0], message=str(one["msg"]).removeprefix("Value error, "))


HANDLERS: dict[int | type[Exception], Any] = {
    HTTPException: on_http,
    RequestValidationError: on_validation,
    NotFound: on_not_found,
    Conflict: on_conflict,
    Invalid: on_invalid,
    Refused: on_refused,
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the problems that it may answer with."""
    reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: reference}}
        for status in statuses
    }
