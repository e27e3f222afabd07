"""The routes through the application's own interface: order of checks, and what every request gets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from frontdesk import ASKED, MAX_BODY_BYTES, TAKEN, Desk
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from huibo.errors import Refusal, Refused

CODES = {0, -1, -2, -3, -5, -101, -102, -103, -104, -105, -110, -401, -402, -403, -423, -501}
FIELDS = [
    *(
        "appId",
        "requestId",
        "src",
        "dst",
        "srcDisplayNum",
        "dstDisplayNum",
        "record",
        "maxAllowTime",
        "statusFlag",
    ),
    *("statusUrl", "hangupUrl", "recordUrl", "bizId", "orderId", "preCallerHandle", "lastCallId"),
]


class Client:
    """One request to an ASGI application, its body in the given chunks, and all that came back."""

    def __init__(self, desk: Desk, *, send_error: BaseException | None = None, leaves: bool = False) -> None:
        self.desk = desk
        self.send_error = send_error
        self.leaves = leaves  # in the middle of its request
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""

    async def ask(
        self,
        *chunks: bytes,
        path: str = "/201511v3/callBack",
        query: bytes = b"id=test",
        method: str = "POST",
        ip: str | None = "127.0.0.1",
        headers: dict[str, str] | None = None,
    ) -> Client:
        sent = {"host": "pstn.example.com"} if headers is None else headers
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
            "client": None if ip is None else (ip, 50000),
            "server": ("127.0.0.1", 8080),
        }
        left = list(chunks) or [b""]

        async def receive() -> dict[str, Any]:
            if not left:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or self.leaves}

        async def send(message: Any) -> None:
            self.desk.seen.append(message["type"])
            if self.send_error is not None:
                raise self.send_error
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                self.body += message["body"]

        await self.desk.app()(scope, receive, send)
        return self

    @property
    def answer(self) -> dict[str, str]:
        assert self.status == 200
        assert self.headers["content-type"] == "application/json;charset=utf-8"
        answer: dict[str, str] = json.loads(self.body)
        return answer


async def refusal(desk: Desk, *chunks: bytes, **asked: Any) -> tuple[str, str, str]:
    answer = (await Client(desk).ask(*chunks, **asked)).answer
    assert list(answer) == ["errorCode", "msg", "requestId"]
    assert "accept" not in desk.seen or answer["errorCode"] == "-501"
    assert "dispatch" not in desk.seen
    return answer["errorCode"], answer["msg"], answer["requestId"]


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(ASKED) | fields).encode()


async def test_an_accepted_call_is_answered_and_only_then_dispatched(desk: Desk) -> None:
    client = await Client(desk).ask(ASKED)
    assert client.answer["errorCode"] == "0"
    assert client.body == TAKEN
    assert desk.seen == ["accept", "http.response.start", "http.response.body", "dispatch"]
    assert desk.identities == [("1400000001", "test", "127.0.0.1")]
    [request] = desk.requests
    assert (request.caller, request.callee) == ("+8613800138000", "+8675586013388")
    assert (request.app_id, request.url_id, request.remote_ip) == ("1400000001", "test", "127.0.0.1")


async def test_a_body_in_pieces_is_one_body(desk: Desk) -> None:
    pieces = [ASKED[at : at + 1] for at in range(len(ASKED))]
    assert (await Client(desk).ask(*pieces)).body == TAKEN


@pytest.mark.parametrize("send_error", [OSError("gone"), asyncio.CancelledError()])
async def test_an_accepted_call_is_dispatched_even_if_the_answer_cannot_leave(
    desk: Desk, send_error: BaseException
) -> None:
    with pytest.raises(type(send_error)):
        await Client(desk, send_error=send_error).ask(ASKED)
    assert desk.seen.count("dispatch") == 1


async def test_a_client_that_leaves_in_the_middle_of_its_request_gets_nothing(desk: Desk) -> None:
    client = await Client(desk, leaves=True).ask(ASKED)
    assert client.status is None
    assert desk.seen == []


async def test_a_dispatch_that_fails_is_logged_and_changes_no_answer(desk: Desk) -> None:
    def fails() -> None:
        raise RuntimeError("no room")

    desk.dispatch = fails  # type: ignore[method-assign]
    with capture_logs() as logs:
        client = await Client(desk).ask(ASKED)
    assert client.body == TAKEN
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["dispatch failed"]


# Each row breaks every rule from its own on; the first one broken is the one that is told.
BAD = changed(src="1", statusUrl="x", maxAllowTime="0", bizId="-")
STRANGER = changed(appId="1", src="1")
FIRST_TOLD = [
    ({"headers": {}, "path": "/201511v4/x", "method": "GET"}, b"{", "-5", "host header missing"),
    ({"path": "/201511v4/x", "method": "GET"}, b"{", "-1", "version not supported"),
    ({"path": "/201511v3/x", "method": "GET"}, b"{", "-2", "operation not supported: x"),
    ({"method": "GET"}, b"{", "-2", "use POST"),
    ({"query": b"id=x"}, b"{" * (MAX_BODY_BYTES + 1), "-2", f"body: larger than {MAX_BODY_BYTES} bytes"),
    ({"query": b"id=x"}, b"{", "-2", "body: not json"),
    ({"query": b"id=x"}, b"{}", "-2", "appId: required"),
    ({"query": b"id=x", "ip": "192.0.2.1"}, STRANGER, "-401", "appId invalid"),
    ({"query": b"id=x", "ip": "192.0.2.1"}, BAD, "-402", "url does not match appId"),
    ({"ip": "192.0.2.1"}, BAD, "-403", "ip not allowed"),
    ({}, BAD, "-101", "src: not 0086 and a mobile number"),
]


@pytest.mark.parametrize(("asked", "body", "code", "message"), FIRST_TOLD)
async def test_the_order_of_the_checks(
    desk: Desk, asked: dict[str, Any], body: bytes, code: str, message: str
) -> None:
    assert (await refusal(desk, body, **asked))[:2] == (code, message)


@pytest.mark.parametrize(("asked", "body", "code", "message"), [row for row in FIRST_TOLD if row[1] != b"{"])
async def test_a_request_id_that_can_be_read_is_given_back_with_every_refusal(
    desk: Desk, asked: dict[str, Any], body: bytes, code: str, message: str
) -> None:
    readable = "requestId" in body.decode()
    assert (await refusal(desk, body, **asked)) == (code, message, "r-1" if readable else "")


@pytest.mark.parametrize("body", [ASKED, BAD])
@pytest.mark.parametrize(
    ("asked", "code"),
    [({"query": b"id=x", "ip": "192.0.2.1"}, "-402"), ({"ip": "192.0.2.1"}, "-403"), ({}, None)],
)
async def test_who_asks_is_looked_at_once_whatever_is_asked(
    desk: Desk, body: bytes, asked: dict[str, Any], code: str | None
) -> None:
    answer = (await Client(desk).ask(body, **asked)).answer
    assert answer["errorCode"] == (code or ("0" if body is ASKED else "-101"))
    assert len(desk.identities) == 1


async def test_the_documented_failure_byte_for_byte(desk: Desk) -> None:
    client = await Client(desk).ask(b'{"requestId":"xxxxxxxxx"}', path="/201511v2/callBack")
    assert client.body == b'{"errorCode":"-1","msg":"version not supported","requestId":"xxxxxxxxx"}'
    assert client.headers["content-length"] == str(len(client.body))


async def test_a_request_id_that_is_too_long_is_refused_and_not_given_back(desk: Desk) -> None:
    told = await refusal(desk, changed(requestId="x" * 49))
    assert told == ("-2", "requestId: longer than 48 bytes", "")
    assert desk.identities  # it had been asked who it is before


@pytest.mark.parametrize("host", ["", " ", "\t"])
async def test_an_empty_host_is_a_missing_host(desk: Desk, host: str) -> None:
    assert (await refusal(desk, ASKED, headers={"host": host})) == ("-5", "host header missing", "r-1")


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:8080", "pstn.avc.example.com", "a b", "[", "a:b:c", "\xff", "user@host", "//"]
)
async def test_any_host_will_do(desk: Desk, host: str) -> None:
    assert (await Client(desk).ask(ASKED, headers={"host": host})).body == TAKEN


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json;charset=utf-8;",
        "application/json;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/xml; charset=gbk",
        "",
        ";;;",
    ],
)
async def test_any_content_type_will_do(desk: Desk, content_type: str | None) -> None:
    headers = {"host": "a", "accept": "application/json;"}
    if content_type is not None:
        headers["content-type"] = content_type
    assert (await Client(desk).ask(ASKED, headers=headers)).body == TAKEN


@pytest.mark.parametrize("path", ["/201511v3/callBack", "/201511v3/callBack/", "/201511v3//callBack"])
async def test_slashes_around_the_operation_do_not_count(desk: Desk, path: str) -> None:
    assert (await Client(desk).ask(ASKED, path=path)).body == TAKEN


@pytest.mark.parametrize(
    "path", ["/201511v2/callBack", "/201511v03/callBack", "/000000v1", "/201512v3/a/b/c"]
)
async def test_another_version_is_not_supported(desk: Desk, path: str) -> None:
    assert (await refusal(desk, ASKED, path=path)) == ("-1", "version not supported", "r-1")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/201511v3/getVirtualNum", ": getVirtualNum"),
        ("/201511v3/callback", ": callback"),
        ("/201511v3", ""),
        ("/201511v3/", ""),
        ("/201511v3/callBack/x", ""),
        ("/201511v3/<b>", ""),
        ("/201511v3/回拨", ""),
        ("/201511v3/" + "x" * 41, ""),
    ],
)
async def test_another_operation_is_not_supported(desk: Desk, path: str, shown: str) -> None:
    assert (await refusal(desk, ASKED, path=path)) == ("-2", f"operation not supported{shown}", "r-1")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "FOO"])
async def test_another_method_is_refused(desk: Desk, method: str) -> None:
    assert (await refusal(desk, ASKED, method=method)) == ("-2", "use POST", "r-1")
    assert (await refusal(desk, method=method)) == ("-2", "use POST", "")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/callBack",
        "/201511/callBack",
        "/2015v3/callBack",
        "/v3/201511v3/callBack",
        "/２０１５１１v3/callBack",
        "/201511v3/call\nBack",
    ],
)
async def test_other_paths_belong_to_others(desk: Desk, path: str) -> None:
    assert (await Client(desk).ask(ASKED, path=path)).status == 404
    assert desk.identities == []


async def test_the_applications_own_paths_stay_its_own(desk: Desk) -> None:
    client = await Client(desk).ask(path="/healthz", method="GET")
    assert (client.status, client.body) == (200, b'{"status":"ok"}')


@pytest.mark.parametrize(
    ("query", "url_id"),
    [
        (b"", ""),
        (b"id=", ""),
        (b"ID=test", ""),
        (b"id=te%73t", "test"),
        (b"x=1&id=test", "test"),
        (b"id=%E6%B5%8B", "测"),
        (b"id=%ff%00", "\ufffd\x00"),
        (b"\xff&&&=&%", ""),
    ],
)
async def test_the_url_id_is_the_id_of_the_query(desk: Desk, query: bytes, url_id: str) -> None:
    answer = (await Client(desk).ask(ASKED, query=query)).answer
    assert desk.identities[0][1] == url_id
    assert answer["errorCode"] == ("0" if url_id == "test" else "-402")


async def test_a_client_without_an_address_has_none(desk: Desk) -> None:
    assert (await refusal(desk, ASKED, ip=None)) == ("-403", "ip not allowed", "r-1")
    assert desk.identities[0][2] == ""


async def test_the_largest_body_is_read_and_one_byte_more_is_not(desk: Desk) -> None:
    largest = ASKED + b" " * (MAX_BODY_BYTES - len(ASKED))
    assert (await Client(desk).ask(largest[:100], largest[100:])).body == TAKEN
    desk.seen.clear()
    too_large = ("-2", f"body: larger than {MAX_BODY_BYTES} bytes", "")
    assert (await refusal(desk, largest, b" ")) == too_large
    assert (await refusal(desk, b"", headers={"host": "a", "content-length": str(10**12)})) == too_large


async def test_what_admission_refuses_is_answered_as_it_says(desk: Desk) -> None:
    desk.failure = Refused(Refusal.NO_LINE)
    answer = (await Client(desk).ask(ASKED)).answer
    assert answer == {"errorCode": "-3", "msg": "no line available", "requestId": "r-1"}
    assert "dispatch" not in desk.seen


@pytest.mark.parametrize("failure", [RuntimeError("secret"), TimeoutError(), KeyError("x"), RecursionError()])
async def test_what_nobody_expected_is_minus_501_and_in_the_log(desk: Desk, failure: Exception) -> None:
    desk.failure = failure
    with capture_logs() as logs:
        told = await refusal(desk, ASKED)
    assert told == ("-501", "server disabled", "r-1")
    [entry] = [entry for entry in logs if entry["log_level"] == "error"]
    assert entry["exc_info"]


BODIES = (
    st.binary(max_size=MAX_BODY_BYTES + 10)
    | st.text(max_size=300).map(str.encode)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode())
    | st.dictionaries(
        st.sampled_from(FIELDS),
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.from_regex(r"0086[0-9]{11,12}", fullmatch=True),
    ).map(lambda fields: changed(**fields))
)


@given(body=BODIES, cut=st.integers(0, MAX_BODY_BYTES))
async def test_any_body_gets_one_answer_of_the_table(body: bytes, cut: int) -> None:
    desk = Desk()
    with capture_logs() as logs:
        client = await Client(desk).ask(body[:cut], body[cut:])
    answer = client.answer
    assert int(answer["errorCode"]) in CODES
    assert answer["errorCode"] != "-501"
    assert not [entry for entry in logs if entry["log_level"] == "error"]
    assert all(isinstance(value, str) for value in answer.values())
    assert len(answer["requestId"].encode()) <= 48
    assert desk.seen.count("dispatch") == desk.seen.count("accept") == (answer["errorCode"] == "0")


@given(
    path=st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=40),
    query=st.binary(max_size=60),
    host=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
    method=st.text(st.characters(codec="ascii"), max_size=8),
)
async def test_any_request_line_gets_one_answer_of_the_table(
    path: str, query: bytes, host: str, method: str
) -> None:
    client = await Client(Desk()).ask(
        ASKED, path=f"/201511v3/{path}", query=query, method=method, headers={"host": host}
    )
    assert client.answer["errorCode"] in ("0", "-2", "-5", "-402")
