"""The blacklist with its import, locks, push secrets and the audit log."""

from __future__ import annotations

from collections.abc import Callable

from tests.api.service import Service

Named = Callable[[str], str]


async def test_a_number_is_listed_and_taken_off(service: Service, named: Named) -> None:
    app_id = named("app")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    entry = {"number": "13812340000", "app": app_id, "direction": "callee", "reason": "asked for it"}
    listed = (await service.put("/blacklist", entry)).ok()
    assert listed == entry | {"number": "8613812340000", "kind": "exact", "expires_at": None}
    prefix = (await service.put("/blacklist", {"number": "1381234", "kind": "prefix", "app": app_id})).ok()
    assert (await service.get("/blacklist", app=app_id)).ok()["items"] == [prefix, listed]
    assert await service.every("/blacklist", 1, app=app_id) == [prefix, listed]
    assert (await service.get("/blacklist", app=app_id, direction="callee")).ok()["items"] == [listed]
    (await service.put("/blacklist", {"number": "x"})).fails(422, "number")
    (await service.put("/blacklist", {"number": "1", "app": "nobody"})).fails(422, "app")
    (await service.get("/blacklist", number="x")).fails(422, "number")
    key = {"number": "13812340000", "app": app_id, "direction": "callee"}
    (await service.delete("/blacklist", **key)).ok(204)
    (await service.delete("/blacklist", **key)).fails(404)
    noted = await service.noted("blacklist", f"{app_id}/callee/8613812340000")
    assert [change["action"] for change in noted] == ["add", "remove"]


async def test_a_blacklist_is_imported(service: Service, named: Named) -> None:
    app_id, file = named("app"), named("list")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    rows = [f"1390000{n:04},{app_id}," for n in range(3000)]
    rows += ["nonsense,,", f"13900009999,{app_id},2026-99-99", "13900009998,nobody,"]
    body = "\ufeffnumber,app,expires\r\n" + "\r\n".join(rows) + "\r\n"
    headers = {"content-type": "text/csv"}
    done = (await service.ask("POST", "/blacklist:import", body.encode(), headers=headers, file=file)).ok()
    assert (done["taken"], done["refused"]) == (3000, 3)
    assert [problem["line"] for problem in done["problems"]] == [3002, 3003, 3004]
    assert len(await service.every("/blacklist", 500, app=app_id)) == 3000
    assert [change["action"] for change in await service.noted("blacklist", file)] == ["import"]
    for bad in (b"", b"13800138000\n", b"phone\n138\n", b"\x00\xff\n"):
        (await service.ask("POST", "/blacklist:import", bad, headers=headers)).fails(422, "columns")


async def test_a_lock_is_set_seen_and_lifted(service: Service, named: Named) -> None:
    app_id, trunk = named("app"), named("trunk")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    (await service.post("/trunks", {"name": trunk, "host": "127.0.0.1"})).ok(201)
    lock = (await service.put("/locks", {"kind": "app", "subject": app_id, "minutes": 5})).ok()
    assert lock["until"] - lock["since"] == 300_000
    assert lock in (await service.get("/locks", kind="app")).ok()["items"]
    (await service.put("/locks", {"kind": "trunk", "subject": trunk, "minutes": 5, "reason": "noise"})).ok()
    health = (await service.get(f"/trunks/{trunk}/health")).ok()
    assert (health["usable"], health["lock"]["reason"]) == (False, "noise")
    (await service.put("/locks", {"kind": "app", "subject": "nobody", "minutes": 5})).fails(422, "subject")
    (await service.put("/locks", {"kind": "address", "subject": "x", "minutes": 5})).fails(422, "address")
    (await service.put("/locks", {"kind": "app", "subject": app_id, "minutes": 0})).fails(422, "minutes")
    for kind, subject in (("app", app_id), ("trunk", trunk)):
        (await service.delete(f"/locks/{kind}/{subject}")).ok(204)
        (await service.delete(f"/locks/{kind}/{subject}")).fails(404)
    (await service.put("/locks", {"kind": "address", "subject": "2001:DB8::1", "minutes": 1})).ok()
    (await service.delete("/locks/address/2001:db8::1")).ok(204)
    (await service.delete("/locks/planet/mars")).fails(422, "kind")
    actions = [change["action"] for change in await service.noted("lock", f"app/{app_id}")]
    assert actions == ["add", "lift"]


async def test_a_push_secret_is_made_changed_and_removed(service: Service, named: Named) -> None:
    app_id = named("app")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    first = (await service.post(f"/apps/{app_id}/secrets", {})).ok(201)
    second = (await service.post(f"/apps/{app_id}/secrets", {"keep_old_s": 60})).ok(201)
    assert first["secret"] != second["secret"]
    listed = (await service.get(f"/apps/{app_id}/secrets")).ok()
    assert [one["id"] for one in listed] == [second["id"], first["id"]]
    assert listed[1]["expires_at"] is not None
    bad = {"secret": "whsec_tooshort-geheim"}
    refused = await service.post(f"/apps/{app_id}/secrets", bad)
    refused.fails(422, "secret")
    everywhere = [
        await service.get(f"/apps/{app_id}/secrets"),
        await service.get("/audit", kind="push secret", subject=app_id),
        refused,
    ]
    shown = " ".join(answer.text for answer in everywhere) + service.log.read_text()
    for secret in (first["secret"], second["secret"], "geheim"):
        assert secret not in shown
    (await service.delete(f"/apps/{app_id}/secrets")).ok(204)
    assert (await service.get(f"/apps/{app_id}/secrets")).ok() == []
    for answer in (
        await service.get("/apps/nobody/secrets"),
        await service.post("/apps/nobody/secrets", {}),
        await service.delete("/apps/nobody/secrets"),
    ):
        answer.fails(404)
    actions = [change["action"] for change in await service.noted("push secret", app_id)]
    assert actions == ["rotate", "rotate", "remove", "remove"]


async def test_the_audit_log_in_pages_while_it_grows(service: Service, named: Named) -> None:
    apps = [named("audited") for _ in range(6)]
    for app_id in apps:
        (await service.post("/apps", {"app_id": app_id})).ok(201)
    seen, cursor = [], {}
    while len(seen) < 6:
        page = (await service.get("/audit", kind="app", limit=2, **cursor)).ok()
        seen += [change["subject"] for change in page["items"]]
        cursor = {"cursor": page["next"]}
        (await service.post("/apps", {"app_id": named("late")})).ok(201)
    assert seen == apps[::-1]
    (await service.get("/audit", cursor="WyJhIl0")).fails(422, "cursor")
    author = (await service.get("/audit", limit=1)).ok()["items"][0]["author"]
    assert {one["author"] for one in (await service.get("/audit", author=author)).ok()["items"]} == {author}
