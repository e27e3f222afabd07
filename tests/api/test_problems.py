"""What goes wrong before or beside the office: every answer is a problem as RFC 9457 says."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from huibo.storage.tokens import Role
from tests.api.service import BODY_TIMEOUT_S, MAX_BODY_BYTES, MAX_IMPORT_BYTES, Service


@pytest.mark.parametrize(
    "path", ["", "/", "/nothing", "/apps/", "/apps/x/y", "/docs", "/redoc", "/calls:none"]
)
async def test_there_is_no_such_path(service: Service, path: str) -> None:
    (await service.get(path)).fails(404)


async def test_another_method(service: Service) -> None:
    refused = await service.delete("/apps")
    refused.fails(405)
    assert set(refused.headers["allow"].split(", ")) & {"GET", "POST"}
    (await service.put("/apps/x", {})).fails(405)
    (await service.get("/calls:check")).fails(405)


@pytest.mark.parametrize(
    "body", [b"{", b"nonsense", b"", b'{"app_id": }', b"\xff\xfe", b"[" * 20000, b'{"a":' * 5000]
)
async def test_a_body_that_is_no_json(service: Service, body: bytes) -> None:
    refused = await service.post("/apps", body)
    assert refused.status in (400, 422)
    refused.fails(refused.status)


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"x"', b"{}"])
async def test_a_body_that_is_no_object(service: Service, body: bytes) -> None:
    (await service.post("/apps", body)).fails(422)


async def test_a_body_of_another_kind(service: Service) -> None:
    headers = {"content-type": "text/plain"}
    (await service.ask("POST", "/apps", b'{"app_id": "x"}', headers=headers)).fails(415, "application/json")


async def test_a_nul_character_anywhere(service: Service) -> None:
    (await service.post("/apps", b'{"app_id": "x", "name": "a\\u0000b"}')).fails(400, "NUL")
    (await service.get("/audit?subject=a%00b")).fails(400, "control character")
    for path in ("/apps/a%00b", "/apps/a%0Ab", "/%0Aapps"):
        (await service.get(path)).fails(400, "control character")


async def test_half_a_surrogate_pair(service: Service) -> None:
    (await service.post("/apps", b'{"app_id": "x", "name": "\\ud800"}')).fails(400, "surrogate")
    whole = b'{"app_id": "a b", "name": "\\ud83d\\ude00"}'
    (await service.post("/apps", whole)).fails(422, "app_id")


async def test_a_body_that_is_too_large(service: Service) -> None:
    fits = b'{"app_id": "a b"}' + b" " * (MAX_BODY_BYTES - 17)
    (await service.post("/apps", fits)).fails(422)
    (await service.post("/apps", fits + b" ")).fails(413, str(MAX_BODY_BYTES))


async def test_a_file_that_is_too_large(service: Service) -> None:
    before = len((await service.get("/blacklist", limit=500)).ok()["items"])
    line = b"13800138000\n"
    file = b"number\n" + line * (MAX_IMPORT_BYTES // len(line) + 1)
    (await service.post("/blacklist:import", file)).fails(413, "cut it up")
    assert len((await service.get("/blacklist", limit=500)).ok()["items"]) == before


@pytest.mark.parametrize("path", ["/apps", "/blacklist:import"])
async def test_a_body_that_stops_coming(service: Service, path: str) -> None:
    head = (
        f"POST /v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    async with asyncio.timeout(BODY_TIMEOUT_S + 30):
        told = await _said(service, head)
    assert told.startswith("HTTP/1.1 408 ")
    assert "application/problem+json" in told


async def test_without_a_token_no_body_is_awaited(service: Service) -> None:
    head = "POST /v1/apps HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000000\r\n\r\n"
    async with asyncio.timeout(30):
        told = await _said(service, head)
    assert told.startswith("HTTP/1.1 401 ")


async def _said(service: Service, head: str) -> str:
    """What comes back to a request until the connection ends."""
    parts = urlsplit(service.base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(head.encode())
        await writer.drain()
        return (await reader.read()).decode()
    finally:
        writer.close()


async def test_the_document_is_open_and_speaks_of_problems(service: Service) -> None:
    document = (await service.acting_as(None).get("/openapi.json")).ok()
    assert document["openapi"].startswith("3.")
    assert document["servers"] == [{"url": "/v1"}]
    assert "HTTPValidationError" not in str(document)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["security"] == [{"HTTPBearer": []}], path
            for status, response in operation["responses"].items():
                if status >= "400":
                    assert set(response["content"]) == {"application/problem+json"}, (path, status)


async def test_the_customers_wire_is_not_touched(service: Service) -> None:
    async with service.http.post(f"{service.base_url}/201511v3/callBack?id=x", data=b"{}") as answer:
        assert answer.status == 200
        assert '"errorCode":"-2"' in await answer.text()
    async with service.http.get(f"{service.base_url}/v1x/apps") as answer:
        assert answer.status == 404


async def test_a_database_that_is_locked_is_a_503(service: Service) -> None:
    token = service.make_token(Role.OPERATOR)
    with service.engine.begin() as connection:  # BEGIN IMMEDIATE: nobody else writes
        assert connection is not None
        refused = await service.acting_as(token).post("/apps", {"app_id": "locked-out"})
    refused.fails(503, "database")
    (await service.get("/apps/locked-out")).fails(404)
