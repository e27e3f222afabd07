"""A trunk in the words of PJSIP: which objects, in which order, with what in them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from huibo.engine.ari.health import Health
from huibo.engine.ari.objects import (
    PjsipObject,
    contacts_of,
    endpoint_of,
    objects_of,
    registration_key,
    trunk_of,
    watch_of,
    watched,
)
from huibo.model import Transport, Trunk
from huibo.ports import LineHealth

PLAIN = Trunk("carrier-1", "192.0.2.1", options_s=0)
FULL = Trunk(
    "t",
    "sip.example.com",
    5061,
    username="user",
    password="p",
    register=True,
    transport=Transport.TLS,
    more_addresses=("192.0.2.2:5070", "[2001:db8::2]:5080"),
)


def of_kind(trunk: Trunk, kind: str) -> list[PjsipObject]:
    return [one for one in objects_of(trunk, 60) if one.kind == kind]


def endpoint(trunk: Trunk, no_audio_s: int = 60) -> dict[str, str]:
    return next(
        one.fields
        for one in objects_of(trunk, no_audio_s)
        if one.name == endpoint_of(trunk) and one.kind == "endpoint"
    )


def test_an_endpoint_comes_after_all_that_it_refers_to() -> None:
    assert [(one.kind, one.name) for one in objects_of(PLAIN, 60)] == [
        ("aor", "trunk-carrier-1"),
        ("endpoint", "trunk-carrier-1"),
    ]
    assert [(one.kind, one.name) for one in objects_of(FULL, 60)] == [
        ("auth", "trunk-t"),
        ("aor", "trunk-t"),
        ("aor", "trunk-t.2"),
        ("aor", "trunk-t.3"),
        ("endpoint", "watch-t"),
        ("endpoint", "trunk-t"),
        ("registration", "trunk-t"),
    ]
    assert endpoint(FULL)["aors"] == "trunk-t,trunk-t.2,trunk-t.3"
    assert (endpoint(PLAIN)["disallow"], endpoint(PLAIN)["allow"]) == ("all", "alaw,ulaw")


def test_whatever_can_change_is_always_named() -> None:
    """What is not named stays as it was: a change back must find the same names."""
    for one in objects_of(FULL, 60):
        others = [other for other in objects_of(PLAIN, 60) if other.kind == one.kind]
        assert all(one.fields.keys() == other.fields.keys() for other in others)
    assert (endpoint(PLAIN)["outbound_auth"], endpoint(PLAIN)["from_domain"]) == ("", "")


def test_a_password_makes_an_auth_that_the_endpoint_uses() -> None:
    trunk = replace(PLAIN, username="user", password="p;w=\\ä, ")
    (auth,) = of_kind(trunk, "auth")
    assert auth.fields == {"auth_type": "userpass", "username": "user", "password": "p;w=\\ä, "}
    assert endpoint(trunk)["outbound_auth"] == auth.name
    (without,) = of_kind(replace(PLAIN, username="user"), "auth")
    assert without.fields["password"] == ""


@pytest.mark.parametrize(
    ("host", "port", "transport", "contact"),
    [
        ("sip.example.com", 5060, Transport.UDP, "sip:sip.example.com:5060"),
        ("192.0.2.1", 5080, Transport.TCP, "sip:192.0.2.1:5080;transport=tcp"),
        ("2001:db8::1", 5061, Transport.TLS, "sip:[2001:db8::1]:5061;transport=tls"),
    ],
)
def test_the_contact(host: str, port: int, transport: Transport, contact: str) -> None:
    trunk = Trunk("t", host, port, transport=transport)
    assert contacts_of(trunk) == {"trunk-t": contact}
    assert [one.fields["contact"] for one in of_kind(trunk, "aor")] == [contact]


def test_each_address_is_asked_in_the_order_in_which_it_is_wanted() -> None:
    assert list(contacts_of(FULL).values()) == [
        "sip:sip.example.com:5061;transport=tls",
        "sip:192.0.2.2:5070;transport=tls",
        "sip:[2001:db8::2]:5080;transport=tls",
    ]


@pytest.mark.parametrize(
    ("transport", "verify", "name"),
    [
        (Transport.UDP, False, "udp"),
        (Transport.TCP, True, "tcp"),
        (Transport.TLS, True, "tls"),
        (Transport.TLS, False, "tls-unverified"),
    ],
)
def test_the_transport(transport: Transport, verify: bool, name: str) -> None:
    trunk = replace(FULL, transport=transport, verify_tls=verify)
    assert endpoint(trunk)["transport"] == name
    assert of_kind(trunk, "registration")[0].fields["transport"] == name


@pytest.mark.parametrize(("options_s", "timeout"), [(1, "1"), (2, "2"), (30, "3"), (3600, "3")])
def test_options(options_s: int, timeout: str) -> None:
    (record,) = of_kind(replace(PLAIN, options_s=options_s), "aor")
    assert (record.fields["qualify_frequency"], record.fields["qualify_timeout"]) == (str(options_s), timeout)
    assert watch_of("carrier-1") in [one.name for one in objects_of(replace(PLAIN, options_s=1), 60)]


def test_no_options_and_nobody_watches() -> None:
    (record,) = of_kind(PLAIN, "aor")
    assert record.fields["qualify_frequency"] == "0"
    assert [one.name for one in of_kind(PLAIN, "endpoint")] == ["trunk-carrier-1"]


def test_a_registration() -> None:
    (one,) = of_kind(FULL, "registration")
    assert registration_key(FULL) == ("sip:user@sip.example.com", "sip:sip.example.com:5061;transport=tls")
    assert (one.fields["client_uri"], one.fields["server_uri"]) == registration_key(FULL)
    assert (one.fields["contact_user"], one.fields["outbound_auth"]) == ("user", "trunk-t")
    elsewhere = replace(FULL, from_domain="home.example", username="a b@c")
    assert registration_key(elsewhere)[0] == "sip:a%20b%40c@home.example"


@pytest.mark.parametrize("no_audio_s", [0, 60])
def test_the_media_watchdog(no_audio_s: int) -> None:
    assert endpoint(PLAIN, no_audio_s)["rtp_timeout"] == str(no_audio_s)


def test_media_stays_with_us_unless_told_and_no_call_comes_in() -> None:
    assert endpoint(PLAIN)["direct_media"] == "no"
    assert endpoint(replace(PLAIN, direct_media=True))["direct_media"] == "yes"
    assert endpoint(PLAIN)["context"] == "nowhere"


def test_names_tell_whose_they_are() -> None:
    assert endpoint_of(Trunk("a", "192.0.2.1")) != endpoint_of(Trunk("b", "192.0.2.1"))
    assert (trunk_of("trunk-a-1"), trunk_of("watch-a"), trunk_of("a")) == ("a-1", None, None)
    assert (watched("watch-a-1"), watched("trunk-a")) == ("a-1", None)


# --- health ---------------------------------------------------------------------------------------


def change(
    trunk: Trunk, at: int, status: str, usec: str = "0", endpoint: str | None = None
) -> dict[str, object]:
    record, uri = list(contacts_of(trunk).items())[at]
    return {
        "type": "ContactStatusChange",
        "endpoint": {"technology": "PJSIP", "resource": endpoint or watch_of(trunk.name)},
        "contact_info": {"uri": uri, "contact_status": status, "aor": record, "roundtrip_usec": usec},
    }


ASKED = replace(FULL, register=False, more_addresses=("192.0.2.2:5070",))


def test_a_line_is_reachable_while_one_of_its_addresses_is() -> None:
    health = Health()
    health.begin(ASKED)
    assert health.of("t") == LineHealth()
    health.take(change(ASKED, 0, "Unreachable"))
    assert health.of("t").reachable is None  # the other one is not known yet
    health.take(change(ASKED, 1, "Reachable", "2500"))
    assert health.of("t") == LineHealth(True, None, 2.5)
    health.take(change(ASKED, 0, "Reachable", "1000"))
    assert health.of("t").roundtrip_ms == 1.0  # of the one that calls take
    health.take(change(ASKED, 0, "Unreachable"))
    health.take(change(ASKED, 1, "Unreachable"))
    assert health.of("t") == LineHealth(False)


def test_events_that_say_nothing_of_it_are_left_aside() -> None:
    health = Health()
    health.begin(ASKED)
    moved = replace(ASKED, host="192.0.2.9")
    for event in (
        change(moved, 0, "Unreachable"),  # it had that address before
        change(ASKED, 0, "Unreachable", endpoint="trunk-t"),
        change(replace(ASKED, name="other"), 0, "Unreachable"),
        {"type": "PeerStatusChange", "endpoint": {"resource": "watch-t"}},
    ):
        health.take(event)
    health.take(change(ASKED, 1, "Unreachable"))
    assert health.of("t").reachable is None


def test_what_was_known_holds_where_nothing_changes() -> None:
    health = Health()
    health.begin(ASKED)
    health.take(change(ASKED, 0, "Unreachable"))
    health.take(change(ASKED, 1, "Reachable"))
    health.begin(replace(ASKED, codecs="alaw"))
    assert health.of("t").reachable is True
    health.begin(replace(ASKED, more_addresses=("192.0.2.3:5060",)))
    assert health.of("t").reachable is None
    health.begin(replace(ASKED, more_addresses=()))
    assert health.of("t").reachable is False
    health.begin(replace(ASKED, options_s=0))
    assert health.of("t").reachable is None


def test_how_a_line_was_found_counts_until_more_is_known() -> None:
    health = Health()
    health.begin(ASKED)
    health.begun("t", found_up=False)
    assert health.of("t").reachable is False
    health.take(change(ASKED, 1, "Reachable"))
    assert health.of("t").reachable is True


def test_a_trunk_that_is_refused_is_not_usable() -> None:
    health = Health()
    health.begin(PLAIN)
    assert health.refuse("carrier-1", "no such codec") is True
    assert health.refuse("carrier-1", "no such codec") is False  # no news
    assert not health.of("carrier-1").usable
    health.begin(PLAIN)
    health.begun("carrier-1")
    assert health.of("carrier-1") == LineHealth()


METRICS = """# TYPE asterisk_pjsip_outbound_registration_status gauge
asterisk_pjsip_outbound_registration_status{{eid="1",username="{0}",domain="{1}",channel_type="PJSIP"}} {2}
asterisk_pjsip_outbound_registration_status{{eid="1",username="sip:x@y",domain="{1}",channel_type="PJSIP"}} 1
"""


@pytest.mark.parametrize(("status", "registered"), [("1", True), ("0", False), ("2", False)])
def test_registrations(status: str, registered: bool) -> None:
    health = Health()
    health.begin(FULL)
    health.begin(PLAIN)
    assert health.registering
    assert health.of("t").registered is None  # nobody has looked
    health.take_registrations(METRICS.format(*registration_key(FULL), status))
    assert health.of("t").registered is registered
    assert health.unregistered is not registered
    assert health.of("carrier-1").registered is None
    health.begin(replace(FULL, codecs="alaw"))
    assert health.of("t").registered is registered
    health.begin(replace(FULL, username="another"))
    assert health.of("t").registered is False


def test_a_registration_that_is_not_listed_has_not_succeeded() -> None:
    health = Health()
    health.begin(FULL)
    health.take_registrations("")
    assert health.of("t").registered is False
