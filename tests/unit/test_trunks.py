"""A trunk in the words of PJSIP: which objects, in which order, with what in them."""

from __future__ import annotations

import pytest

from huibo.engine.ari.trunks import endpoint_of, objects_of
from huibo.model import Trunk

PLAIN = Trunk("carrier-1", "192.0.2.1")


def test_an_endpoint_comes_after_all_that_it_refers_to() -> None:
    (aor_kind, aor), (endpoint_kind, endpoint) = objects_of(PLAIN, 60)
    assert (aor_kind, endpoint_kind) == ("aor", "endpoint")
    assert aor == {"contact": "sip:192.0.2.1:5060"}
    assert endpoint["aors"] == endpoint_of(PLAIN)
    assert (endpoint["disallow"], endpoint["allow"]) == ("all", "alaw,ulaw")


def test_a_password_makes_an_auth_that_the_endpoint_uses() -> None:
    trunk = Trunk("t", "192.0.2.1", username="user", password="p;w=\\ä, ")
    (kind, auth), _, (_, endpoint) = objects_of(trunk, 60)
    assert (kind, auth) == (
        "auth",
        {"auth_type": "userpass", "username": "user", "password": "p;w=\\ä, "},
    )
    assert endpoint["outbound_auth"] == endpoint_of(trunk)
    assert objects_of(Trunk("t", "192.0.2.1", username="user"), 60)[0][1]["password"] == ""


@pytest.mark.parametrize(
    ("host", "port", "contact"),
    [
        ("sip.example.com", 5060, "sip:sip.example.com:5060"),
        ("192.0.2.1", 5080, "sip:192.0.2.1:5080"),
        ("2001:db8::1", 5060, "sip:[2001:db8::1]:5060"),
    ],
)
def test_the_contact(host: str, port: int, contact: str) -> None:
    assert dict(objects_of(Trunk("t", host, port), 60))["aor"]["contact"] == contact


@pytest.mark.parametrize("no_audio_s", [0, 60])
def test_the_media_watchdog(no_audio_s: int) -> None:
    assert dict(objects_of(PLAIN, no_audio_s))["endpoint"]["rtp_timeout"] == str(no_audio_s)


def test_media_stays_with_us_and_no_call_comes_in() -> None:
    endpoint = dict(objects_of(PLAIN, 60))["endpoint"]
    assert endpoint["direct_media"] == "no"
    assert endpoint["context"] == "nowhere"


def test_two_trunks_never_share_a_name() -> None:
    assert endpoint_of(Trunk("a", "192.0.2.1")) != endpoint_of(Trunk("b", "192.0.2.1"))
    assert endpoint_of(PLAIN) == "trunk-carrier-1"
