"""Targets of pushes over the API: the failing ones are seen, a disabled one is enabled."""

from __future__ import annotations

from collections.abc import Callable

from huibo.storage import push_targets
from huibo.storage.push_targets import Failure
from tests.api.service import Service

NOW = 1_700_000_000_000


async def test_targets_are_listed_and_enabled(service: Service, named: Callable[[str], str]) -> None:
    app_id = named("app")
    urls = [f"https://c.example/{name}" for name in "abc"]
    failures = [Failure((app_id, url), NOW, "HTTP 410", NOW, "HTTP 410") for url in urls[:2]]
    failures.append(Failure((app_id, urls[2]), NOW, "HTTP 500", NOW))
    service.transact(lambda connection: push_targets.fail(connection, failures, 0))
    listed = await service.every("/push-targets", 1, app_id=app_id)
    assert [(one["url"], one["reason"]) for one in listed] == [
        (urls[0], "HTTP 410"),
        (urls[1], "HTTP 410"),
        (urls[2], None),
    ]
    assert (await service.get("/push-targets", app_id=app_id, disabled="true")).ok()["items"] == listed[:2]
    assert (await service.get("/push-targets", app_id=app_id, disabled="false")).ok()["items"] == listed[2:]
    name = {"app_id": app_id, "url": f"{urls[0]}?call=7"}
    assert (await service.post("/push-targets:enable", name)).ok() == listed[0]
    (await service.post("/push-targets:enable", name)).fails(404, "push target")
    (await service.post("/push-targets:enable", {"app_id": app_id, "url": urls[2]})).fails(404)
    (await service.post("/push-targets:enable", {"app_id": app_id})).fails(422, "url")
    assert await service.every("/push-targets", 1, app_id=app_id) == listed[1:]
    noted = await service.noted("push target", f"{app_id}/{urls[0]}")
    assert [(change["author"] == "huibo", change["action"]) for change in noted] == [
        (True, "disable"),
        (False, "enable"),
    ]
