"""Who may do what: tokens, and every route with every role."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from huibo.clock import Clock
from huibo.storage.tables import api_tokens
from huibo.storage.tokens import Role
from tests.api.service import Service

V, O, A = Role.VIEWER, Role.OPERATOR, Role.ADMIN  # noqa: E741
CALL = {"app_id": "nobody", "caller": "13800138000", "callee": "13900139000"}

# Every route: the least role that it takes, and a body that does no harm.
ROUTES: dict[tuple[str, str], tuple[Role, Any]] = {
    ("GET", "/apps"): (V, None),
    ("POST", "/apps"): (O, {"app_id": "a b"}),
    ("GET", "/apps/{app_id}"): (V, None),
    ("PATCH", "/apps/{app_id}"): (O, {}),
    ("DELETE", "/apps/{app_id}"): (O, None),
    ("GET", "/apps/{app_id}/secrets"): (A, None),
    ("POST", "/apps/{app_id}/secrets"): (A, {}),
    ("DELETE", "/apps/{app_id}/secrets"): (A, None),
    ("GET", "/numbers"): (V, None),
    ("POST", "/numbers"): (O, {"number": "1"}),
    ("GET", "/numbers/{number}"): (V, None),
    ("PATCH", "/numbers/{number}"): (O, {}),
    ("DELETE", "/numbers/{number}"): (O, None),
    ("GET", "/trunks"): (V, None),
    ("POST", "/trunks"): (O, {"name": "a b"}),
    ("GET", "/trunks/{name}"): (V, None),
    ("PATCH", "/trunks/{name}"): (O, {}),
    ("DELETE", "/trunks/{name}"): (O, None),
    ("GET", "/trunks/{name}/health"): (V, None),
    ("GET", "/rates"): (V, None),
    ("PUT", "/rates"): (O, {"prefix": "x"}),
    ("DELETE", "/rates"): (O, None),
    ("GET", "/accounts/{app_id}"): (V, None),
    ("POST", "/accounts/{app_id}/credits"): (A, {"amount": 1}),
    ("POST", "/accounts/{app_id}/adjustments"): (A, {"amount": 1, "reason": "x"}),
    ("GET", "/accounts/{app_id}/ledger"): (V, None),
    ("GET", "/accounts/{app_id}/statement"): (V, None),
    ("GET", "/blacklist"): (V, None),
    ("PUT", "/blacklist"): (O, {"number": "x"}),
    ("DELETE", "/blacklist"): (O, None),
    ("POST", "/blacklist:import"): (O, b"nonsense\n"),
    ("GET", "/locks"): (V, None),
    ("PUT", "/locks"): (O, {"kind": "app"}),
    ("DELETE", "/locks/{kind}/{subject}"): (O, None),
    ("GET", "/calls"): (V, None),
    ("POST", "/calls"): (O, CALL),
    ("POST", "/calls:check"): (V, CALL),
    ("POST", "/calls/{call_id}:cancel"): (O, {}),
    ("GET", "/calls/{call_id}"): (V, None),
    ("GET", "/pushes"): (V, None),
    ("GET", "/pushes/{push_id}"): (V, None),
    ("POST", "/pushes/{push_id}:replay"): (O, None),
    ("POST", "/pushes:replay"): (O, {"call_id": "nobody"}),
    ("GET", "/push-targets"): (V, None),
    ("POST", "/push-targets:enable"): (O, {"app_id": "nobody", "url": "http://x/"}),
    ("GET", "/tokens"): (A, None),
    ("POST", "/tokens"): (A, {"name": "x"}),
    ("DELETE", "/tokens/{token_id}"): (A, None),
    ("GET", "/audit"): (V, None),
    ("GET", "/health"): (V, None),
    ("POST", "/cells/{name}:drain"): (O, None),
    ("POST", "/cells/{name}:undrain"): (O, None),
}
HOLES = {
    **dict.fromkeys(("app_id", "number", "name", "call_id", "token_id", "subject"), "nobody"),
    "kind": "app",
    "push_id": "987654321",
}


async def test_the_table_names_every_route(service: Service) -> None:
    document = (await service.acting_as(None).get("/openapi.json")).ok()
    known = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert known == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_route_takes_its_role_and_those_above(service: Service, method: str, path: str) -> None:
    least, body = ROUTES[method, path]
    address = path.format(**HOLES)
    nobody = await service.acting_as(None).ask(method, address, body)
    nobody.fails(401, "Bearer")
    assert nobody.headers["www-authenticate"].startswith("Bearer")
    for role in Role:
        answer = await service.acting_as(service.make_token(role)).ask(method, address, body)
        if role.covers(least):
            assert answer.status in (200, 202, 204, 404, 422, 503)
        else:
            answer.fails(403, f"needs the role {least}")


async def test_a_token_is_shown_once_and_kept_as_a_digest(service: Service) -> None:
    made = (await service.post("/tokens", {"name": "ci", "role": "viewer"})).ok(201)
    token = made.pop("token")
    assert token.startswith(f"hb_{made['id']}_")
    assert len(token) > 50
    assert made in (await service.get("/tokens", limit=500)).ok()["items"]

    def stored(connection: Connection) -> Any:
        return connection.execute(select(api_tokens).where(api_tokens.c.id == made["id"])).one()

    assert service.transact(stored).digest == hashlib.sha256(token.encode()).hexdigest()
    secret = token.split("_", 2)[2]
    for path in ("/tokens", "/audit"):
        assert secret not in (await service.get(path, limit=500)).text
    assert (await service.acting_as(token).get("/health")).status == 200
    (await service.acting_as(token).get("/tokens")).fails(403)
    assert secret not in service.log.read_text()
    noted = await service.noted("token", made["id"])
    assert [(change["action"], change["after"]) for change in noted] == [("add", made)]


async def test_no_table_holds_a_token(service: Service) -> None:
    secret = service.make_token(Role.VIEWER).split("_", 2)[2]

    def everything(connection: Connection) -> str:
        tables = connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")).all()
        return " ".join(str(connection.execute(text(f"SELECT * FROM {name}")).all()) for name in tables)

    assert secret not in service.transact(everything)


async def test_a_revoked_token_is_worth_nothing(service: Service) -> None:
    made = (await service.post("/tokens", {"name": "gone", "role": "admin"})).ok(201)
    bearer = service.acting_as(made["token"])
    assert (await bearer.get("/tokens")).status == 200
    (await service.delete(f"/tokens/{made['id']}")).ok(204)
    (await bearer.get("/tokens")).fails(401)
    (await service.delete(f"/tokens/{made['id']}")).fails(404)
    (await service.delete("/tokens/nobody")).fails(404)
    listed = (await service.get("/tokens", limit=500)).ok()["items"]
    assert next(one for one in listed if one["id"] == made["id"])["revoked_at"] is not None
    assert [change["action"] for change in await service.noted("token", made["id"])] == ["add", "revoke"]


async def test_a_token_expires(service: Service) -> None:
    now = Clock().now_ms()
    token = service.make_token(Role.VIEWER, expires_at=now + 3_600_000)
    assert (await service.acting_as(token).get("/health")).status == 200

    def age(connection: Connection) -> None:
        query = api_tokens.update().where(api_tokens.c.id == token.split("_")[1])
        connection.execute(query.values(expires_at=now - 1))

    service.transact(age)
    (await service.acting_as(token).get("/health")).fails(401)
    new = {"name": "x", "role": "viewer", "expires_at": now - 1000}
    (await service.post("/tokens", new)).fails(422, "expires_at: is over already")
    (await service.post("/tokens", {"name": "x", "role": "root"})).fails(422, "viewer")
    (await service.post("/tokens", {"name": "", "role": "viewer"})).fails(422, "name")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic {token}",
        "{token}",
        "Bearer {token}x",
        "Bearer x{token}",
        "Bearer hb_{id}_",
        "Bearer hb__",
        "Bearer hb_{id}",
        "Bearer {token} {token}",
        "Bearer " + "a" * 5000,
        "Bearer hb_' OR 1=1 --_x",
    ],
)
async def test_what_is_no_token(service: Service, header: str) -> None:
    token = service.make_token(Role.ADMIN)
    given = header.format(token=token, id=token.split("_")[1])
    headers = {"authorization": given} if given else {}
    (await service.acting_as(None).ask("GET", "/apps", headers=headers)).fails(401)
    (await service.acting_as(None).ask("GET", "/no/such/path", headers=headers)).fails(401)


async def test_the_scheme_is_known_in_any_case(service: Service) -> None:
    headers = {"authorization": f"bearer {service.make_token(Role.VIEWER)}"}
    assert (await service.acting_as(None).ask("GET", "/apps", headers=headers)).status == 200


async def test_tokens_in_pages(service: Service) -> None:
    made = [(await service.post("/tokens", {"name": "p", "role": "viewer"})).ok(201)["id"] for _ in range(5)]
    listed = [one["id"] for one in await service.every("/tokens", 2)]
    assert [one for one in listed if one in made] == made[::-1] or set(made) <= set(listed)
    assert len(listed) == len(set(listed))
