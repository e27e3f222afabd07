"""Apps, display numbers and trunks: added, changed, removed, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from huibo import model
from huibo.office.trunks import Codec
from huibo.storage import catalog
from tests.api.service import Service

Named = Callable[[str], str]


async def test_an_app_is_added_changed_and_removed(service: Service, named: Named) -> None:
    app_id = named("app")
    added = (await service.post("/apps", {"app_id": app_id, "allowed_ips": ["10.0.0.0/8"]})).ok(201)
    assert added["url_id"] == app_id
    assert added["allowed_ips"] == ["10.0.0.0/8"]
    assert added["state"] == "active"
    assert added["calls_per_second"] is None
    assert (await service.get(f"/apps/{app_id}")).ok() == added

    changes = {
        "name": "Meier",
        "hours": ["Mon-Fri 09:00-21:00"],
        "warn": ["callee", "callee"],
        "keep_days": 3,
    }
    changed = (await service.patch(f"/apps/{app_id}", changes)).ok()
    expected = added | changes | {"hours": ["mon-fri 09:00-21:00"], "warn": ["callee"]}
    assert (await service.get(f"/apps/{app_id}")).ok() == expected
    assert changed == expected

    back = (await service.patch(f"/apps/{app_id}", {"keep_days": None, "state": "blocked"})).ok()
    assert (back["keep_days"], back["state"], back["name"]) == (None, "blocked", "Meier")
    (await service.delete(f"/apps/{app_id}")).ok(204)
    (await service.get(f"/apps/{app_id}")).fails(404, f"no app {app_id}")
    (await service.delete(f"/apps/{app_id}")).fails(404)

    noted = await service.noted("app", app_id)
    assert [change["action"] for change in noted] == ["add", "change", "change", "remove"]
    assert noted[0]["before"] is None
    assert noted[0]["after"] == added
    assert noted[1]["before"] == added
    assert noted[1]["after"]["name"] == "Meier"
    assert noted[3]["after"] is None
    assert noted[0]["origin"] == "127.0.0.1"
    assert noted[0]["author"].startswith("a admin (")


async def test_a_change_of_nothing_is_not_noted(service: Service, named: Named) -> None:
    app_id = named("app")
    added = (await service.post("/apps", {"app_id": app_id})).ok(201)
    assert (await service.patch(f"/apps/{app_id}", {})).ok() == added
    assert (await service.patch(f"/apps/{app_id}", {"name": ""})).ok() == added
    assert len(await service.noted("app", app_id)) == 1


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("url_id", "", "url_id"),
        ("url_id", "a b", "url_id"),
        ("name", "x" * 201, "name"),
        ("name", "a\nb", "control characters"),
        ("name", None, "name"),
        ("allowed_ips", ["10.0.0.300"], "not an address or network"),
        ("allowed_ips", "10.0.0.1", "allowed_ips"),
        ("status_url", "ftp://example.com/", "http"),
        ("status_url", "https:///path", "http"),
        ("status_url", "https://user@example.com/", "http"),
        ("cdr_url", "https://exa mple.com/", "http"),
        ("record_url", "https://example.com:99999/", "http"),
        ("state", "asleep", "active"),
        ("display", "random", "pool"),
        ("display", "fixed", "caller_number"),
        ("caller_number", "02131264133", "not a number of this app"),
        ("callee_number", "12", "callee_number"),
        ("caller_ring_s", 601, "600"),
        ("warn", ["everybody"], "caller"),
        ("keep_days", 0, "keep_days"),
        ("calls_per_second", 0, "calls_per_second"),
        ("calls_at_once", 2**70, "calls_at_once"),
        ("callee_per_hour", 1.5, "callee_per_hour"),
        ("hours", ["mon-fry 09:00-21:00"], "no such day"),
        ("hours", ["9-21"], "not like"),
        ("timezone", "Asia/Nowhere", "no such time zone"),
        ("timezone", "../../etc/passwd", "no such time zone"),
        ("rate_plan", "nothing-there", "no rate in plan"),
        ("prepaid", True, "needs a rate_plan"),
        ("app_id", "other", "Extra inputs"),
        ("nonsense", 1, "Extra inputs"),
    ],
)
async def test_what_an_app_cannot_be(
    service: Service, named: Named, field: str, value: Any, words: str
) -> None:
    app_id = named("app")
    added = (await service.post("/apps", {"app_id": app_id})).ok(201)
    refused = await service.patch(f"/apps/{app_id}", {field: value})
    refused.fails(422, words)
    assert refused.body["errors"][0]["field"].startswith(field)
    assert (await service.get(f"/apps/{app_id}")).ok() == added
    other = named("app")
    if field != "app_id" and (field, value) != ("url_id", ""):
        (await service.post("/apps", {"app_id": other, field: value})).fails(422, words)
    (await service.get(f"/apps/{other}")).fails(404)


async def test_an_app_is_there_once(service: Service, named: Named) -> None:
    app_id = named("app")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    (await service.post("/apps", {"app_id": app_id, "name": "other"})).fails(409, "exists already")
    (await service.post("/apps", {"app_id": "a b"})).fails(422, "app_id")
    (await service.post("/apps", {})).fails(422, "app_id: Field required")
    assert len(await service.noted("app", app_id)) == 1


async def test_a_number_is_added_changed_and_removed(service: Service, named: Named) -> None:
    app_id, other, trunk, number = named("app"), named("app"), named("trunk"), named("0213126")
    for each in (app_id, other):
        (await service.post("/apps", {"app_id": each})).ok(201)
    (await service.post("/trunks", {"name": trunk, "host": "127.0.0.1"})).ok(201)
    new = {"number": number, "area": "上海", "apps": [other, app_id, app_id], "trunks": [trunk]}
    added = (await service.post("/numbers", new)).ok(201)
    assert added == {
        "number": number,
        "area": "上海",
        "enabled": True,
        "apps": sorted([app_id, other]),
        "trunks": [trunk],
    }
    (await service.post("/numbers", new)).fails(409, "exists already")
    assert (await service.get("/numbers", app_id=other)).ok()["items"] == [added]
    (await service.patch(f"/numbers/{number}", {"apps": ["nobody"]})).fails(422, "no app nobody")
    (await service.patch(f"/numbers/{number}", {"trunks": ["nowhere"]})).fails(422, "no trunk nowhere")
    changed = (await service.patch(f"/numbers/{number}", {"enabled": False, "apps": [app_id]})).ok()
    assert changed == added | {"enabled": False, "apps": [app_id]}
    assert (await service.get("/numbers", app_id=other)).ok()["items"] == []
    (await service.delete(f"/trunks/{trunk}")).fails(409, number, "change them first")
    (await service.delete(f"/numbers/{number}")).ok(204)
    (await service.get(f"/numbers/{number}")).fails(404)
    (await service.delete(f"/trunks/{trunk}")).ok(204)
    actions = [change["action"] for change in await service.noted("number", number)]
    assert actions == ["add", "change", "remove"]


@pytest.mark.parametrize("number", ["12", "+8613800138000", "021-31264133", "1" * 21, ""])
async def test_what_a_number_cannot_be(service: Service, number: str) -> None:
    (await service.post("/numbers", {"number": number})).fails(422, "number")


async def test_a_fixed_number_stays_with_its_app(service: Service, named: Named) -> None:
    app_id, number = named("app"), named("0213126")
    (await service.post("/apps", {"app_id": app_id})).ok(201)
    (await service.post("/numbers", {"number": number, "apps": [app_id]})).ok(201)
    fixed = {"display": "fixed", "caller_number": number}
    assert (await service.patch(f"/apps/{app_id}", fixed)).ok()["caller_number"] == number
    (await service.delete(f"/numbers/{number}")).fails(409, app_id)
    (await service.patch(f"/numbers/{number}", {"apps": []})).fails(409, "change the app first")
    (await service.patch(f"/numbers/{number}", {"area": "Shanghai"})).ok()
    (await service.patch(f"/apps/{app_id}", {"display": "pool", "caller_number": None})).ok()
    (await service.delete(f"/numbers/{number}")).ok(204)


async def test_a_trunk_is_added_changed_drained_and_removed(service: Service, named: Named) -> None:
    name = named("trunk")
    new = {
        "name": name,
        "host": "sip.example.com",
        "username": "u",
        "password": "geheim-1",
        "prefixes": ["138", "+86010", "86138"],
        "more_addresses": ["[::1]:5061"],
        "register": True,
    }
    added = (await service.post("/trunks", new)).ok(201)
    assert "password" not in added
    assert added["has_password"] is True
    assert added["register"] is True
    assert added["codecs"] == ["alaw", "ulaw"]
    assert added["prefixes"][0] == "86138"
    assert (await service.get(f"/trunks/{name}")).ok() == added
    assert added in (await service.get("/trunks", limit=500)).ok()["items"]
    (await service.post("/trunks", new)).fails(409, "exists already")

    changed = (await service.patch(f"/trunks/{name}", {"state": "draining", "codecs": ["ulaw"]})).ok()
    assert changed == added | {"state": "draining", "codecs": ["ulaw"]}
    health = (await service.get(f"/trunks/{name}/health")).ok()
    assert (health["state"], health["usable"], health["channels_in_use"]) == ("draining", False, 0)

    (await service.patch(f"/trunks/{name}", {"password": "geheim-2"})).ok()
    (await service.patch(f"/trunks/{name}", {"username": None})).fails(422, "register: needs a username")
    gone = (await service.patch(f"/trunks/{name}", {"username": None, "register": False})).ok()
    assert gone["has_password"] is False
    (await service.patch(f"/trunks/{name}", {"password": "geheim-3"})).fails(422, "needs a username")
    (await service.delete(f"/trunks/{name}")).ok(204)
    (await service.get(f"/trunks/{name}")).fails(404)
    (await service.get(f"/trunks/{name}/health")).fails(404)

    noted = await service.noted("trunk", name)
    assert [change["action"] for change in noted] == ["add", "change", "password", "change", "remove"]
    assert "geheim" not in (await service.get("/audit", kind="trunk", subject=name)).text
    assert "geheim" not in service.log.read_text()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "a b", "name"),
        ("name", "x" * 41, "name"),
        ("host", "", "host"),
        ("host", "sip.example.com:5060", "a port has a field of its own"),
        ("host", "sip:carrier", "host"),
        ("host", "256.1.1.1", "IPv4"),
        ("host", "a;transport=tcp", "host"),
        ("port", 0, "port"),
        ("port", 65536, "port"),
        ("more_addresses", ["sip.example.com"], "host:port"),
        ("more_addresses", ["sip.example.com:0"], "host:port"),
        ("transport", "sctp", "udp"),
        ("codecs", [], "codecs"),
        ("codecs", ["g729"], "alaw"),
        ("username", "a\r\nb", "control characters"),
        ("password", "secret-a\nb", "control characters"),
        ("from_domain", "a b", "from_domain"),
        ("dial_format", "+49", "national"),
        ("dial_prefix", "a", "dial_prefix"),
        ("prefixes", ["x"], "beginning of"),
        ("state", "gone", "draining"),
        ("priority", 2**40, "priority"),
        ("weight", 0, "weight"),
        ("cost", -1, "cost"),
        ("channels", 0, "channels"),
        ("calls_per_second", 0, "calls_per_second"),
        ("options_s", 3601, "options_s"),
        ("min_answered", 101, "min_answered"),
        ("has_password", True, "Extra"),
    ],
)
async def test_what_a_trunk_cannot_be(
    service: Service, named: Named, field: str, value: Any, words: str
) -> None:
    name = named("trunk")
    new = {"name": name, "host": "sip.example.com", "username": "u"} | {field: value}
    refused = await service.post("/trunks", new)
    refused.fails(422, words)
    assert "secret" not in refused.text
    (await service.get(f"/trunks/{name}")).fails(404)


async def test_addresses_in_reserve_need_options(service: Service, named: Named) -> None:
    new = {"name": named("trunk"), "host": "127.0.0.1", "more_addresses": ["127.0.0.1:5061"], "options_s": 0}
    (await service.post("/trunks", new)).fails(422, "more_addresses: need options_s")


def test_the_codecs_are_those_that_the_engine_loads() -> None:
    from pathlib import Path
    from typing import get_args

    import huibo

    text = (Path(huibo.__file__).parent / "engine/ari/etc/modules.conf").read_text()
    modules = {line.removeprefix("load=").strip() for line in text.splitlines() if line.startswith("load=")}
    loaded = {name[6:-3] for name in modules if name.startswith("codec_")} - {"resample"}
    assert set(get_args(Codec)) == loaded


async def test_pages_are_stable_while_something_is_added(service: Service, named: Named) -> None:
    for path, key, body in (
        ("/apps", "app_id", {}),
        ("/numbers", "number", {}),
        ("/trunks", "name", {"host": "127.0.0.1"}),
    ):
        prefix = {"number": "0998877"}.get(key, "page-")
        names = [f"{prefix}{n}" for n in range(10, 20)]
        for name in names:
            (await service.post(path, {key: name} | body)).ok(201)
        seen, cursor, step = [], {}, 0
        while True:
            page = (await service.get(path, limit=3, **cursor)).ok()
            seen += [item[key] for item in page["items"] if item[key].startswith(prefix)]
            if step < 3:  # before what has been seen: it must not shift the rest
                (await service.post(path, {key: f"0000{named('')}"} | body)).ok(201)
                step += 1
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert seen == names


@pytest.mark.parametrize("cursor", ["x", "%", "bnVsbA", "WzFd", "W10", "WyJhIiwiYiJd"])
async def test_a_cursor_that_is_none(service: Service, cursor: str) -> None:
    for path in ("/apps", "/numbers", "/trunks"):
        (await service.get(path, cursor=cursor)).fails(422, "cursor: not one of ours")
    (await service.get("/apps", limit=0)).fails(422, "limit")
    (await service.get("/apps", limit=501)).fails(422, "limit")
    (await service.get("/apps", nonsense="1")).fails(422, "nonsense")


async def test_what_was_entered_by_older_ways_is_shown_as_it_is(service: Service, named: Named) -> None:
    app_id, trunk = f"应用 {named('')}", named("trunk")
    odd = model.App(app_id, "ü", "a\nb", ("nonsense",), "ftp://x", settings=model.AppSettings(prepaid=True))

    def enter(connection: Connection) -> None:
        catalog.add_app(connection, odd, 0)
        catalog.add_trunk(connection, model.Trunk(trunk, "carrier_1..", password="geheim"), 0)

    service.transact(enter)
    shown = (await service.get(f"/apps/{app_id}")).ok()
    assert (shown["url_id"], shown["prepaid"], shown["status_url"]) == ("ü", True, "ftp://x")
    assert shown in await service.every("/apps", 500)
    (await service.patch(f"/apps/{app_id}", {"name": "x"})).fails(422)
    whole = {"url_id": "u", "name": "x", "allowed_ips": [], "status_url": None, "prepaid": False}
    assert (await service.patch(f"/apps/{app_id}", whole)).ok()["url_id"] == "u"
    assert (await service.get(f"/trunks/{trunk}")).ok()["has_password"] is True
    (await service.patch(f"/trunks/{trunk}", {"weight": 2})).fails(422, "host")
    (await service.patch(f"/trunks/{trunk}", {"host": "127.0.0.1"})).fails(422, "password: needs a username")
    (await service.patch(f"/trunks/{trunk}", {"host": "127.0.0.1", "password": None})).ok()
    (await service.delete(f"/apps/{app_id}")).ok(204)
