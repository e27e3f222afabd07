"""The OpenAPI document: it says what the code does, and the running application does what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
import schemathesis
from fastapi import FastAPI
from frontdesk import Desk as FrontDesk
from jsonschema_rs import Draft202012Validator
from schemathesis import Case
from schemathesis.config import SchemathesisConfig
from schemathesis.python import asgi
from test_pushes import CALL, TALKED

from huibo import __version__
from huibo.admission.abuse import Abuse
from huibo.admission.admit import Admission
from huibo.cells import Cells
from huibo.clock import Clock
from huibo.config import load
from huibo.desk import Desk
from huibo.errors import EngineError, Refusal, Refused
from huibo.flow.live import LiveCalls
from huibo.flow.runner import Services
from huibo.flow.state import CallState, Plan
from huibo.model import App, CallRecord, CancelUnless, DisplayNumber, EndReason, Leg, Moment, Report, Trunk
from huibo.ports import Engine, LineHealth, PromptMaker
from huibo.storage import catalog
from huibo.storage.cells import Cell
from huibo.storage.database import Database
from huibo.storage.migrate import migrate
from huibo.wire import body, fields, menu, openapi_fields, pushes, queries, tencent
from huibo.wire.notifier import WireNotifier
from huibo.wire.openapi import REFUSALS, document
from huibo.wire.operations import operations
from huibo.wire.routes import describing, make_app

DOCUMENT = document(__version__, 1440)
PATH = f"/{tencent.VERSION}"
MENU = {
    "readPrompt": "您好",
    "interruptPrompt": "接听请按1",
    "keyList": [{"key": "1", "operate": "1"}],
    "repeatTimes": "2",
    "promptGender": "1",
    "keyPressUrl": "http://shop.example/key",
}
FULL: dict[str, object] = {
    "appId": "1400000001",
    "requestId": "r-1",
    "src": "008613800138000",
    "dst": "0086075586013388",
    "srcDisplayNum": "02131264133",
    "dstDisplayNum": "4001360123",
    "maxAllowTime": "30",
    "statusFlag": "16191",
    "statusUrl": "http://shop.example/status",
    "hangupUrl": "http://shop.example/cdr",
    "recordUrl": "http://shop.example/recording",
    "bizId": "Biz42",
    "orderId": "42",
    "record": "1",
    "preCallerHandle": MENU,
    "lastCallId": "12-190123-7f1020da3bf94e19b324a613ccf3e96d",
    "ringRecognition": "1",
}


def request_fields(name: str) -> dict[str, Any]:
    content = DOCUMENT["paths"][f"{PATH}/{name}"]["post"]["requestBody"]["content"]
    return cast(dict[str, Any], content["application/json"]["schema"]["properties"])


def answers(name: str, method: str = "post") -> Any:
    """Checks an answer to an operation."""
    content = DOCUMENT["paths"][f"{PATH}/{name}"][method]["responses"]["200"]["content"]
    return Draft202012Validator(content["application/json"]["schema"]).validate


def told(name: str) -> Any:
    """Checks the body of a push."""
    content = DOCUMENT["webhooks"][name]["post"]["requestBody"]["content"]
    return Draft202012Validator(content["application/json"]["schema"]).validate


def read(request: body.Fields) -> None:
    """What the code makes of a callBack. Raises `Refused`."""
    tencent.app_id_of(request)
    tencent.parse_callback(request, url_id="test", remote_ip="127.0.0.1", max_talk_min=1440)


class Reader:
    """Notes the names of the fields that the code reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: set[str] = set()
        for module in (fields, tencent, queries, menu):
            monkeypatch.setattr(module, "text_of", self._text_of)

    def _text_of(self, given: body.Fields, name: str) -> str:
        self.names.add(name)
        return body.text_of(given, name)

    def watch(self, given: dict[str, object]) -> dict[str, object]:
        """The same fields; what is taken from them without being a text is noted too."""
        names = self.names

        class Watched(dict[str, object]):
            def get(self, name: str, default: object = None) -> object:  # type: ignore[override]
                names.add(name)
                return super().get(name, default)

        return Watched(given)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    return Reader(monkeypatch)


def test_the_operations_are_those_of_the_code_with_their_methods() -> None:
    table = operations(cast(Any, FrontDesk()), 1440)
    found = {path.removeprefix(f"{PATH}/"): set(item) for path, item in DOCUMENT["paths"].items()}
    assert found == {name: {method.lower() for method in one.methods} for name, one in table.items()}
    assert DOCUMENT["info"]["version"] == __version__


def test_every_field_that_callback_reads_is_described_and_no_other(reader: Reader) -> None:
    request = reader.watch(FULL | {"preCallerHandle": ""})
    read(request)
    assert reader.names == request_fields("callBack").keys()
    assert FULL.keys() == request_fields("callBack").keys()


def test_every_member_of_the_menu_is_described_and_no_other(reader: Reader) -> None:
    assert menu.parse_menu(reader.watch(dict(MENU))) is not None
    read = {name.removeprefix("preCallerHandle.") for name in reader.names}
    described = openapi_fields.MENU["properties"]
    entry = described["keyList"]["oneOf"][1]["properties"]
    assert read == described.keys() | {f"keyList.{name}" for name in entry}
    assert MENU.keys() == described.keys()


@pytest.mark.parametrize(
    ("name", "parse"),
    [
        ("callCancel", [queries.parse_call_id, queries.parse_cancel]),
        ("getStatus", [queries.parse_call_id]),
        ("getCdr", [queries.parse_period]),
        ("getCallerDisplayList", []),
    ],
)
def test_every_field_that_the_others_read_is_described_and_no_other(
    reader: Reader, name: str, parse: list[Callable[[body.Fields], object]]
) -> None:
    stamps = {"startTimeStamp": "1", "endTimeStamp": "2"}
    for given in ({"appId": "1", "callId": "c"}, {"appId": "1"} | stamps):
        request = reader.watch(dict(given))
        tencent.app_id_of(request)
        for one in parse:
            try:
                one(request)
            except Refused:
                assert name != "getCdr"
    assert reader.names == request_fields(name).keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("src", one) for one in ("8613800138000", "0086075586013388", "00861380013800", "")),
        *(("dst", one) for one in ("13900139001", "008675586013388", "00861390013900x")),
        *(("srcDisplayNum", one) for one in ("12", "1" * 21, "021-31264133")),
        *(("statusUrl", one) for one in ("shop.example", "ftp://shop.example/", "http://a b/")),
        *(("bizId", one) for one in ("Biz-42", "a" * 65)),
        *(("maxAllowTime", one) for one in ("1.5", "-1")),
        *(("appId", one) for one in ("", "1" * 65)),
        ("orderId", "1" * 65),
        ("requestId", "1" * 49),
        ("record", "2"),
        ("lastCallId", "1" * 65),
        *(("preCallerHandle", MENU | {"keyList": {"key": key, "operate": "1"}}) for key in ("E", "12", "")),
        ("preCallerHandle", MENU | {"keyList": {"key": "1", "operate": "4"}}),
        ("preCallerHandle", MENU | {"promptGender": "3"}),
        ("preCallerHandle", MENU | {"repeatTimes": "100"}),
        ("preCallerHandle", MENU | {"keyPressUrl": "shop.example"}),
        ("preCallerHandle", MENU | {"readPrompt": "字" * 501}),
    ],
)
def test_what_the_document_forbids_the_code_refuses(name: str, value: object) -> None:
    schema = {"type": "object", "properties": request_fields("callBack")}
    request = FULL | {name: value}
    assert Draft202012Validator(schema).is_valid(FULL)
    assert not Draft202012Validator(schema).is_valid(request)
    with pytest.raises(Refused):
        read(request)


@pytest.mark.parametrize("name", [one for one in FULL if one not in ("appId", "src", "dst")])
def test_optional_fields_may_be_left_empty(name: str) -> None:
    request = FULL | {name: {} if name == "preCallerHandle" else ""}
    assert Draft202012Validator({"properties": request_fields("callBack")}).is_valid(request)
    read(request)


def test_every_code_is_there() -> None:
    assert {one for codes in REFUSALS.values() for one in codes} == set(Refusal)


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_as_described(name: str) -> None:
    refuse = operations(cast(Any, FrontDesk()), 1440)[name].refuse
    for refusal in REFUSALS[name]:
        answers(name)(json.loads(refuse(Refused(refusal), "r-1")))
    foreign = next(one for one in Refusal if one not in REFUSALS[name])
    with pytest.raises(ValueError, match="valid"):
        answers(name)(json.loads(refuse(Refused(foreign), "r-1")))


def test_answers_are_as_described() -> None:
    record = CallRecord(CALL, TALKED, "http://huibo.example/recordings/1.mp3")
    state = CallState(CALL.accepted_at, Plan(30, 60, 60, 1800))
    for name, answer in (
        ("callBack", tencent.accepted("call-1", "", "02131264133", "4001360123")),
        *(
            ("callCancel", queries.cancelled("call-1", unless, released))
            for unless in CancelUnless
            for released in (True, False)
            if released or unless is not CancelUnless.NEVER
        ),
        ("getStatus", queries.status(CALL.app_id, CALL.call_id, CALL.caller, CALL.callee, state)),
        ("getCdr", queries.records([record, replace(record, recording_url="")], 0)),
        ("getCdr", queries.records([], 1548235059)),
        ("getCallerDisplayList", queries.display_numbers(CALL.app_id, ["02131264133"])),
    ):
        answers(name)(json.loads(answer))
    rows = openapi_fields.ROW.keys()
    assert json.loads(queries.records([record], 0))["cdr"][0].keys() == rows


def test_pushes_are_as_described() -> None:
    for moment in Moment:
        for leg, code in ((Leg.CALLER, 486), (Leg.CALLEE, None)):
            told("status")(json.loads(pushes.status_push(CALL, Report(leg, moment, 1548235059_000, code))))
    for key in menu.KEYS:
        told("key")(json.loads(pushes.key_push(CALL, key)))
    for call in (CALL, replace(CALL, biz_id="Biz42", order_id="42")):
        told("cdr")(json.loads(pushes.cdr_push(call, TALKED)))
    unanswered = [
        replace(TALKED, callee=replace(TALKED.callee, answered_at=None, reason=reason))
        for reason in (None, *EndReason)
    ]
    for ring in (None, *map(pushes.ring_result, unanswered)):
        told("recording")(json.loads(pushes.record_push(CALL, "", ring)))
    every = set(json.loads(pushes.status_push(CALL, Report(Leg.CALLER, Moment.REFUSED, 0, 486))))
    assert every == openapi_fields.STATUS_PUSH.keys()


# --- the running application -------------------------------------------------------------------------------

schemathesis.checks.load_all_checks()
CHECKS = schemathesis.checks.CHECKS.get_by_names(
    [
        *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
        "response_schema_conformance",
    ]
)
APP = App("1400000001", "test")


class NoTelephones:
    """An engine that is ready and reaches nobody: each call that is accepted ends with a record."""

    ready = True

    def line(self, _trunk: str) -> LineHealth:
        return LineHealth()

    async def seize(self, _trunk: str) -> None:
        """There is always room."""

    def __getattr__(self, _name: str) -> Callable[..., Any]:
        async def refuse(*_: object, **__: object) -> None:
            raise EngineError("no telephones here")

        return refuse


class Running:
    """The callback API on a database, with everything behind it that has nothing to do with telephones."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        engine, settings, clock = cast(Any, NoTelephones()), load(), Clock()
        services = Services(
            engine,
            self.database,
            clock,
            engine,
            WireNotifier(),
            cast(PromptMaker, engine),
            pushes_owed=lambda: None,
            recording_owed=lambda: None,
            stepped=lambda *_: None,
            call_over=lambda *_: None,
        )
        self.live = LiveCalls(services)
        admission = Admission(self.database, cast(Engine, engine), clock, settings.calls)
        forbearing = settings.abuse.model_copy(update={"refusals": 0, "unanswered": 0})
        abuse = Abuse(self.database, clock, forbearing)
        about = Cell("main", "http://huibo.example", __version__, engine_ready=True, live_calls=0)
        cells = Cells(self.database, clock, settings.cell, self.live, lambda: about)
        desk = Desk(admission, abuse, self.live, cells, self.database, "http://huibo.example")
        others = FastAPI(lifespan=self._lifespan, openapi_url=None)
        others.routes.append(describing(1440))
        self.http = make_app(desk, others, max_body_bytes=65536, max_talk_min=1440, body_timeout_s=10)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As an ASGI application that is asked from this machine."""
        await self.http(scope | {"client": ("127.0.0.1", 50000)}, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        yield  # more than once: schemathesis ends it after each of its tests
        await self.live.close()


def furnish(connection: Any) -> None:
    catalog.add_app(connection, APP, 1)
    catalog.add_trunk(connection, Trunk("carrier", "192.0.2.1"), 1)
    for number in ("02131264133", "4001360123"):
        catalog.add_number(connection, DisplayNumber(number, apps=(APP.app_id,)), 1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    opened = Running(f"sqlite:///{tmp_path_factory.mktemp('openapi')}/huibo.sqlite3")
    migrate(opened.database.engine)
    opened.database.write_now(furnish)
    yield opened
    asgi.shutdown_lifespans()
    asyncio.run(opened.database.close())


@pytest.fixture(scope="module")
def client(running: Running) -> asgi.ASGIClient:
    return asgi.get_client(running)


def described() -> Any:
    """The document in schemathesis' hands; that it is the one which is served, is tested below."""
    config = SchemathesisConfig(seed=1)
    config.projects.default.generation.update(max_examples=40, deterministic=True, database="none")
    return schemathesis.openapi.from_dict(DOCUMENT, config=config)


API = described()


def test_it_is_served_as_it_is(client: asgi.ASGIClient) -> None:
    with client:
        assert client.get("/openapi/callback.json").json() == DOCUMENT


@API.parametrize()
def test_strangers_get_answers_as_described(case: Case, client: asgi.ASGIClient) -> None:
    with client:
        response = case.call_and_validate(client.base_url, client, checks=CHECKS)
    assert response.status_code == 200


@API.parametrize()
def test_customers_get_answers_as_described(case: Case, client: asgi.ASGIClient) -> None:
    """The same with the identity of the app, and about a call that there is."""
    known = ask(client, "callBack", {"src": "008613800138000", "dst": "008613900139001"})["callId"]
    if isinstance(case.query, dict):
        case.query["id"] = APP.url_id
    for given in (case.body, case.query):
        if isinstance(given, dict):
            if "appId" in given:
                given["appId"] = APP.app_id
            if given.get("callId"):
                given["callId"] = known
    with client:
        response = case.call_and_validate(client.base_url, client, checks=CHECKS)
    assert response.status_code == 200


def ask(client: asgi.ASGIClient, operation: str, given: dict[str, object]) -> Any:
    with client:
        url = f"{PATH}/{operation}?id={APP.url_id}"
        answer = client.post(url, json={"appId": APP.app_id} | given).json()
    answers(operation)(answer)
    return answer
