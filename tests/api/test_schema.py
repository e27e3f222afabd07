"""Every route asked what nobody would ask, made from the OpenAPI document: no 5xx, no answer that it does not
promise. What is asked is the same in every run.
"""

from __future__ import annotations

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from huibo.clock import Clock
from huibo.model import Push
from huibo.storage.tokens import Role
from tests.api.service import Service
from tests.api.test_access import ROUTES
from tests.api.test_calls import a_call, finished, store

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 40


@pytest.fixture(scope="module")
def schema(service: Service) -> Any:
    return schemathesis.openapi.from_url(f"{service.base_url}/v1/openapi.json")


@pytest.fixture(scope="module")
def session(service: Service) -> Any:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {service.make_token(Role.ADMIN)}"
        yield session


@pytest.fixture
async def there(service: Service) -> dict[str, Any]:
    """Something of every kind that a path may name: what is asked is not to end at a 404 each time."""
    app, trunk, number = "schema-app", "schema-trunk", "0219999999"
    await service.post("/apps", {"app_id": app})
    await service.post("/trunks", {"name": trunk, "host": "127.0.0.1", "state": "off"})
    await service.post("/numbers", {"number": number, "apps": [app]})
    await service.put("/locks", {"kind": "app", "subject": app, "minutes": 1000})
    token = (await service.post("/tokens", {"name": "x", "role": "viewer"})).ok(201)["id"]
    call = a_call(f"schema-{Clock().now_ms()}", app)
    push = Push(call.call_id, app, "cdr", 1, "http://127.0.0.1:9/", b"{}")
    store(service, call, finished(call), (push,))
    owed = (await service.get("/pushes", call_id=call.call_id)).ok()["items"][0]["id"]
    names = {"app_id": app, "name": trunk, "number": number, "token_id": token, "call_id": call.call_id}
    return names | {"push_id": owed, "kind": "app", "subject": app}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_answer_is_as_documented(
    schema: Any, session: requests.Session, there: dict[str, Any], method: str, path: str
) -> None:
    operation = schema[path][method]
    known = {name: value for name, value in there.items() if f"{{{name}}}" in path}
    strategies = [
        operation.as_strategy(GenerationMode.POSITIVE),
        operation.as_strategy(GenerationMode.NEGATIVE),
    ]
    if known:
        strategies += [operation.as_strategy(GenerationMode.POSITIVE, path_parameters=known)] * 2

    @given(case=st.one_of(strategies))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        case.call_and_validate(session=session, checks=CHECKS, timeout=30)

    ask()
