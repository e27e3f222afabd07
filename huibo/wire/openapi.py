"""The callback API as an OpenAPI 3.1 document: its operations, its codes, its pushes.

Pure. The contract in words is docs/wire.md; this is made from the tables that the code goes by.
"""

from __future__ import annotations

from typing import Any

from huibo.errors import Refusal
from huibo.wire import openapi_fields as of
from huibo.wire.openapi_fields import Schema, text
from huibo.wire.operations import MAX_KEY_CHARS
from huibo.wire.tencent import VERSION

_ALWAYS = (
    *(Refusal.VERSION, Refusal.PARAMETER, Refusal.NO_HOST, Refusal.APP, Refusal.URL_ID, Refusal.ADDRESS),
    *(Refusal.BLOCKED, Refusal.UNAVAILABLE),
)
REFUSALS: dict[str, tuple[Refusal, ...]] = {
    "callBack": (
        *_ALWAYS,
        *(Refusal.NO_LINE, Refusal.NUMBER, Refusal.DISPLAY_NUMBER, Refusal.URL, Refusal.BIZ_ID),
        *(Refusal.BALANCE, Refusal.BLACKLIST),
    ),
    "callCancel": (*_ALWAYS, Refusal.NO_CALL),
    "getStatus": (*_ALWAYS, Refusal.NO_CALL),
    "getCdr": (*_ALWAYS, Refusal.NO_CALL, Refusal.PERIOD),
    "getCallerDisplayList": _ALWAYS,
}

_ABOUT = """\
A server asks for a call with one request; huibo rings the caller (`src`), then the callee (`dst`), joins
them, and pushes what happens. The whole contract: docs/wire.md.

Every answer has HTTP status 200; whether it worked is said by `errorCode`. Every value is a string; in
requests integers are taken as their decimal text, `""` and `null` are fields that were not given, and unknown
fields are ignored. The `Content-Type` of requests does not matter. There is no signature: an app (`appId`)
asks from its URL (`id`) and from the addresses on its list."""

_MEANINGS = {
    Refusal.NO_CALL: "the app has no such call; for callCancel also: it is over",
    Refusal.BLOCKED: "the app is blocked, or it or the address is locked for a time",
    Refusal.UNAVAILABLE: "the server cannot serve now: fail over, or try later",
}

_SIGNED = [
    ("webhook-id", True, "The same in every attempt, and of no other push"),
    ("webhook-timestamp", False, "UNIX seconds of the attempt; with a push secret"),
    (
        "webhook-signature",
        False,
        "Standard Webhooks: v1 and the base64 of an HMAC-SHA256; with a push secret",
    ),
]


def document(version: str, max_talk_min: int) -> dict[str, Any]:
    """The document, of a huibo of this version."""
    requests = {
        "callBack": (of.call_back(max_talk_min), ("appId", "src", "dst")),
        "callCancel": (of.CALL_CANCEL, ("appId", "callId")),
        "getStatus": (of.GET_STATUS, ("appId", "callId")),
        "getCdr": (of.GET_CDR, ("appId",)),
        "getCallerDisplayList": (of.GET_CALLER_DISPLAY_LIST, ("appId",)),
    }
    paths = {f"/{VERSION}/{name}": {"post": _operation(name, *of_it)} for name, of_it in requests.items()}
    paths[f"/{VERSION}/callCancel"]["get"] = _cancel_by_get()
    return {
        "openapi": "3.1.0",
        "info": {"title": "huibo callback API", "version": version, "description": _ABOUT},
        "paths": paths,
        "webhooks": _pushes(),
        "components": {"parameters": {"id": _URL_ID}},
    }


_SUMMARIES = {
    "callBack": "Connect two phones",
    "callCancel": "End a call",
    "getStatus": "How far a call is",
    "getCdr": "Call detail records, of one call or of a period",
    "getCallerDisplayList": "The numbers that the app may show",
}
_URL_ID: Schema = {
    "name": "id",
    "in": "query",
    "required": True,
    "schema": text("Belongs to the app; given out with the appId", maxLength=64),
}
_ID = {"$ref": "#/components/parameters/id"}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": text(
        "The client's own name for this request: the same key with the same body within 24 hours gets the "
        "same answer and rings nobody",
        maxLength=MAX_KEY_CHARS,
    ),
}


def _operation(name: str, fields: dict[str, Schema], required: tuple[str, ...]) -> dict[str, Any]:
    body = {"type": "object", "required": list(required), "properties": fields}
    return {
        "operationId": name,
        "summary": _SUMMARIES[name],
        "parameters": [_ID, _KEY] if name == "callBack" else [_ID],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": _answers(name)},
    }


def _cancel_by_get() -> dict[str, Any]:
    """callCancel with its fields in the query, which it takes too."""
    fields = [
        {"name": name, "in": "query", "required": name != "cancelFlag", "schema": schema}
        for name, schema in of.CALL_CANCEL.items()
    ]
    return {
        "operationId": "callCancelByGet",
        "summary": _SUMMARIES["callCancel"],
        "parameters": [_ID, *fields],
        "responses": {"200": _answers("callCancel")},
    }


def _answers(name: str) -> dict[str, Any]:
    done = {
        "callBack": _whole(of.ACCEPTED),
        "callCancel": _whole(of.CANCELLED),
        "getStatus": _whole(of.STATUS),
        "getCdr": _records(),
        "getCallerDisplayList": _code_list(),
    }[name]
    content: dict[str, Any] = {"application/json": {"schema": {"oneOf": [done, _refused(name)]}}}
    if name == "getCdr":
        content["application/octet-stream"] = {"schema": {"description": "The same, as compress asks for it"}}
    codes = "\n".join(f"| {one.code} | {_MEANINGS.get(one, one.text)} |" for one in REFUSALS[name])
    return {
        "description": f"Done, or refused:\n\n| errorCode | meaning |\n|---|---|\n{codes}",
        "content": content,
    }


def _refused(name: str) -> Schema:
    fields = {
        "errorCode": text("Why it was refused", enum=sorted({one.code for one in REFUSALS[name]})),
        "msg": text("For people: what is wrong, and in which field"),
    }
    if name == "callBack":
        fields["requestId"] = text("Of the request; empty when there was none that could be used")
    if name == "getCdr":
        fields["result"] = text("The same as msg")
    return _whole(fields)


def _records() -> Schema:
    told = text("What this is", const="Call Details")
    offset = text("0: complete; else ask for the rest with this as startTimeStamp", "[0-9]+")
    rows = {"type": "array", "items": _whole(of.ROW)}
    zero = text("Done", const="0")
    return _whole({"errorCode": zero, "result": told, "msg": told, "offset": offset, "cdr": rows})


def _code_list() -> Schema:
    numbers = {"type": "array", "items": _whole(of.CODE)}
    return _whole({"errorCode": text("Done", const="0"), "appId": text("Who asked"), "codeList": numbers})


def _pushes() -> dict[str, Any]:
    told = {
        "status": ("To statusUrl, at each moment that statusFlag asks for", of.STATUS_PUSH, ("errorCode",)),
        "key": ("To keyPressUrl, for each key taken", of.KEY_PUSH, ()),
        "cdr": ("To hangupUrl, for every accepted call", of.CDR_PUSH, ("bizId", "orderId")),
        "recording": ("To recordUrl, when there is one", of.RECORD_PUSH, ("ringRecoResult",)),
    }
    headers = [
        {"name": name, "in": "header", "required": always, "schema": text(about)}
        for name, always, about in _SIGNED
    ]
    return {
        name: {
            "post": {
                "operationId": f"{name}Push",
                "summary": about,
                "parameters": headers,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _whole(fields, at_times)}},
                },
                "responses": {"2XX": {"description": "Taken; what else the reply holds is ignored"}},
            }
        }
        for name, (about, fields, at_times) in told.items()
    }


def _whole(fields: dict[str, Schema], at_times: tuple[str, ...] = ()) -> Schema:
    """An object with these fields and no others; `at_times`: those that may be missing."""
    return {
        "type": "object",
        "required": [name for name in fields if name not in at_times],
        "properties": fields,
        "additionalProperties": False,
    }
