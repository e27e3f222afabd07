"""Signed pushes, checked as receivers check them: with the Standard Webhooks library, on what has arrived."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from push_office import Journal, Office, cdr, ids, status
from push_receivers import Got, receiver
from pydantic import ValidationError
from sqlalchemy import select, update
from standardwebhooks import Webhook, WebhookVerificationError

from huibo.model import App, Push
from huibo.office import secrets
from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.office.secrets import NewPushSecret, Rotation
from huibo.push.signing import headers, key_of, secret_of
from huibo.storage.catalog import add_app, remove_app
from huibo.storage.tables import audit, push_secrets

pytest_plugins = ["push_fixtures"]

APP = "1400000000"  # whose pushes `status` and `cdr` make
DAY_S = 86_400


class Shop:
    """An app with its secrets, in an office."""

    def __init__(self, office: Office) -> None:
        self.office = office

    async def open(self) -> None:
        for app_id in (APP, "other"):
            await self.office.database.write(
                lambda connection, app_id=app_id: add_app(connection, App(app_id, "id"), 1)
            )

    async def rotate(
        self, app_id: str = APP, ago_s: float = 0, keep_s: int = DAY_S, **asked: Any
    ) -> NewPushSecret:
        by = Author("anna", "cli", self.office.clock.now_ms() - round(ago_s * 1000))
        rotation = Rotation(**asked)
        return await self.office.database.write(
            lambda connection: secrets.rotate(connection, by, app_id, rotation, keep_s)
        )

    async def listed(self) -> list[secrets.PushSecret]:
        now = self.office.clock.now_ms()
        return await self.office.database.read(lambda connection: secrets.page(connection, APP, now))

    async def remove_all(self) -> int:
        by = Author("anna", "cli", self.office.clock.now_ms())
        return await self.office.database.write(lambda connection: secrets.remove_all(connection, by, APP))


@pytest.fixture
async def shop(office: Office) -> Shop:
    opened = Shop(office)
    await opened.open()
    return opened


def accepts(secret: NewPushSecret, got: Got) -> bool:
    """Whether a receiver with this secret takes the push for ours."""
    try:
        Webhook(secret.secret).verify(got.body, got.headers, json_parse=False)
    except WebhookVerificationError:
        return False
    return True


def signatures(got: Got) -> int:
    return len(got.headers.get("webhook-signature", "").split())


async def test_each_attempt_is_signed_and_the_body_is_not_touched(office: Office, shop: Shop) -> None:
    secret = await shop.rotate()
    body = '{ "msg": "中文\\/" , "a":"1" }'.encode()
    async with receiver(500, 200) as customer:
        office.open()
        await office.owe(Push("12-260102-ab", APP, "status", 7, customer.url(), body))
        first, second = await customer.arrived(2)
    assert accepts(secret, first)
    assert accepts(secret, second)
    assert [each.body for each in (first, second)] == [body, body]
    assert ids(customer) == ["12-260102-ab-7"] * 2
    now = office.clock.now_ms() / 1000
    assert int(second.headers["webhook-timestamp"]) == pytest.approx(now, abs=60)


async def test_the_time_is_that_of_the_attempt(
    office: Office, shop: Shop, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.rotate()
    async with receiver(500, 200) as customer:
        office.open(status_retry_s=[60])
        await office.owe(status("c1", 1, customer.url()))
        await journal.heard("push failed")
        now_ms = office.clock.now_ms
        monkeypatch.setattr(office.clock, "now_ms", lambda: now_ms() + 100_000)
        office.deliverer.wake()
        first, second = await customer.arrived(2)
    between = int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"])
    assert 100 <= between < 200


async def test_what_was_changed_on_the_way_is_noticed(office: Office, shop: Shop) -> None:
    secret = await shop.rotate()
    async with receiver() as customer:
        office.open()
        await office.owe(status("c1", 1, customer.url()))
        (got,) = await customer.arrived(1)
    other = Got(got.path, got.headers | {"webhook-id": "c1-2"}, got.body)
    later = str(int(got.headers["webhook-timestamp"]) + 1)
    assert not accepts(secret, other)
    assert not accepts(secret, Got(got.path, got.headers | {"webhook-timestamp": later}, got.body))
    assert not accepts(secret, Got(got.path, got.headers, got.body.replace(b"c1", b"c2")))


async def test_an_app_without_a_secret_gets_the_id_alone(office: Office, shop: Shop) -> None:
    await shop.rotate("other")
    async with receiver() as customer:
        office.open()
        await office.owe(status("c1", 1, customer.url()))
        (got,) = await customer.arrived(1)
    assert got.id == "c1-1"
    assert not {"webhook-signature", "webhook-timestamp"} & {name.lower() for name in got.headers}


async def test_each_app_has_its_own(office: Office, shop: Shop) -> None:
    ours, theirs = await shop.rotate(), await shop.rotate("other")
    async with receiver() as customer:
        office.open()
        await office.owe(
            Push("c1", APP, "cdr", 1, customer.url("/ours"), b"{}"),
            Push("c2", "other", "cdr", 1, customer.url("/theirs"), b"{}"),
        )
        got = {each.path: each for each in await customer.arrived(2)}
    assert accepts(ours, got["/ours"])
    assert not accepts(theirs, got["/ours"])
    assert accepts(theirs, got["/theirs"])


async def test_a_new_secret_counts_at_once_and_the_old_one_beside_it(office: Office, shop: Shop) -> None:
    async with receiver() as customer:
        office.open()
        old = await shop.rotate()
        await office.owe(status("c1", 1, customer.url()))
        await customer.arrived(1)
        new = await shop.rotate()
        await office.owe(status("c1", 2, customer.url()))
        first, second = await customer.arrived(2)
    assert (accepts(old, first), accepts(new, first), signatures(first)) == (True, False, 1)
    assert (accepts(old, second), accepts(new, second), signatures(second)) == (True, True, 2)


@pytest.mark.parametrize(
    ("ago_s", "asked"),
    [(DAY_S + 1, {}), (20, {"keep_old_s": 10}), (0, {"keep_old_s": 0})],
    ids=["a day", "10 s", "at once"],
)
async def test_then_the_old_one_is_gone(
    office: Office, shop: Shop, ago_s: float, asked: dict[str, int]
) -> None:
    old = await shop.rotate(ago_s=ago_s + 5)
    new = await shop.rotate(ago_s=ago_s, **asked)
    async with receiver() as customer:
        office.open()
        await office.owe(status("c1", 1, customer.url()))
        (got,) = await customer.arrived(1)
    assert (accepts(old, got), accepts(new, got), signatures(got)) == (False, True, 1)
    assert [one.id for one in await shop.listed()] == [new.id]


async def test_three_at_most_sign(office: Office, shop: Shop) -> None:
    made = [await shop.rotate() for _ in range(5)]
    async with receiver() as customer:
        office.open()
        await office.owe(status("c1", 1, customer.url()))
        (got,) = await customer.arrived(1)
    assert [accepts(one, got) for one in made] == [False, False, True, True, True]
    assert signatures(got) == 3
    assert [one.id for one in await shop.listed()] == [one.id for one in reversed(made[2:])]


async def test_a_later_rotation_does_not_prolong_what_is_going(shop: Shop) -> None:
    await shop.rotate(ago_s=100)
    await shop.rotate(ago_s=50, keep_s=60)
    (newest, oldest) = await shop.listed()
    await shop.rotate(keep_s=DAY_S)
    assert {one.id: one.expires_at for one in await shop.listed()}[oldest.id] == oldest.expires_at
    assert {one.id: one.expires_at for one in await shop.listed()}[newest.id] is not None


async def test_expired_secrets_do_not_stay_in_the_database(office: Office, shop: Shop) -> None:
    await shop.rotate(ago_s=100)
    await shop.rotate(ago_s=50, keep_s=10)
    await shop.rotate()
    kept = await office.database.read(lambda connection: list(connection.scalars(select(push_secrets.c.id))))
    assert len(kept) == 2


async def test_removed_secrets_sign_nothing(office: Office, shop: Shop) -> None:
    await shop.rotate()
    await shop.rotate()
    assert await shop.remove_all() == 2
    assert await shop.listed() == []
    async with receiver() as customer:
        office.open()
        await office.owe(status("c1", 1, customer.url()))
        (got,) = await customer.arrived(1)
    assert signatures(got) == 0


async def test_pushes_of_an_app_that_was_removed_still_leave(office: Office, shop: Shop) -> None:
    await shop.rotate()
    await office.database.write(lambda connection: remove_app(connection, APP))
    async with receiver() as customer:
        office.open()
        await office.owe(cdr("c1", 1, customer.url()))
        (got,) = await customer.arrived(1)
    assert signatures(got) == 0


async def test_a_secret_that_cannot_be_read_fails_its_app_alone(
    office: Office, shop: Shop, journal: Journal
) -> None:
    """Nothing leaves unsigned that should be signed; and nobody else waits for it."""
    await shop.rotate()
    await shop.rotate("other")
    spoilt = update(push_secrets).where(push_secrets.c.app_id == APP).values(secret="whsec_?")
    await office.database.write(lambda connection: connection.execute(spoilt))
    async with receiver() as customer:
        office.open(cdr_retry_s=[])
        await office.owe(cdr("c1", 1, customer.url()))
        await journal.heard("push dead")
        await office.owe(Push("c2", "other", "cdr", 1, customer.url(), b"{}"))
        await customer.arrived(1)
        await office.stop()
    assert ids(customer) == ["c2-1"]


async def test_a_secret_is_shown_once_and_never_noted(office: Office, shop: Shop, journal: Journal) -> None:
    made = [await shop.rotate(), await shop.rotate(secret=secret_of(b"x" * 24))]
    async with receiver(500) as customer:
        office.open(cdr_retry_s=[])
        await office.owe(cdr("c1", 1, customer.url()))
        await journal.heard("push dead")
    await shop.remove_all()
    noted = await office.database.read(
        lambda connection: [
            tuple(row)
            for row in connection.execute(
                select(audit.c.author, audit.c.action, audit.c.kind, audit.c.subject, audit.c.after)
            )
        ]
    )
    assert [row[:4] for row in noted] == [
        ("anna", action, "push secret", APP) for action in ("rotate", "rotate", "remove", "remove")
    ]
    assert noted[0][4]["fingerprint"] == made[0].fingerprint
    for one in made:
        assert one.secret.startswith("whsec_")
        told = f"{noted} {await shop.listed()} {journal.entries} {await office.rows('last_error')} {made}"
        assert one.secret[6:] not in told


async def test_a_customer_may_bring_a_secret(shop: Shop) -> None:
    mine = secret_of(b"0123456789" * 3)
    assert (await shop.rotate(secret=mine)).secret == mine
    with pytest.raises(Invalid, match="secret: signs already"):
        await shop.rotate(secret=mine)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_!", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5", "whsec_YWJj"]
)
def test_a_secret_that_is_none_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValidationError, match="base64 of 24 to 64 bytes") as refused:
        Rotation(secret=secret)
    assert not secret[6:] or secret[6:] not in str(refused.value)


async def test_an_unknown_app_has_no_secrets(shop: Shop) -> None:
    with pytest.raises(NotFound, match="no app nobody"):
        await shop.rotate("nobody")


async def test_signing_costs_no_query_for_each_push(office: Office, shop: Shop) -> None:
    await shop.rotate()
    counted = office.count()
    async with receiver() as customer:
        office.open()
        await office.owe(*(cdr(f"c{number}", 1, customer.url()) for number in range(200)))
        await customer.arrived(200)
        await office.stop()
    assert 0 < len([one for one in counted if "push_secrets" in one]) < 150
    assert min(map(signatures, customer.got)) == 1


@given(st.binary(min_size=24, max_size=64), st.text(), st.integers(0, 2**33))
def test_signatures_are_those_of_the_library(key: bytes, body: str, now_s: int) -> None:
    at = datetime.fromtimestamp(now_s, UTC)
    data = body.encode("utf-8", "replace")
    expected = Webhook(key).sign("c1-1", at, data.decode())
    assert headers("c1-1", data, [secret_of(key)], now_s) == {
        "webhook-id": "c1-1",
        "webhook-timestamp": str(now_s),
        "webhook-signature": expected,
    }
    assert key_of(secret_of(key)) == key


@given(st.one_of(st.binary(max_size=23), st.binary(min_size=65, max_size=80)))
def test_keys_of_a_wrong_length_are_none(key: bytes) -> None:
    with pytest.raises(ValueError, match="24 to 64"):
        key_of("whsec_" + base64.b64encode(key).decode())
