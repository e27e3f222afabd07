"""Who may ask: the URL's id and the address a request comes from."""

from __future__ import annotations

import pytest

from huibo.admission.access import check_address, check_url_id, networks
from huibo.errors import Refusal, Refused
from huibo.model import App


def app(*allowed: str, url_id: str = "test") -> App:
    return App(app_id="1400000001", url_id=url_id, allowed_ips=allowed)


@pytest.mark.parametrize("url_id", ["test", "中文", ""])
def test_the_apps_own_url_id_passes(url_id: str) -> None:
    check_url_id(app(url_id=url_id), url_id)


@pytest.mark.parametrize("url_id", ["", "Test", "tes", "test ", "testtest", "测试", "\ud800"])
def test_any_other_url_id_is_refused(url_id: str) -> None:
    with pytest.raises(Refused) as refused:
        check_url_id(app(), url_id)
    assert refused.value.refusal is Refusal.URL_ID


@pytest.mark.parametrize(
    ("allowed", "ip"),
    [
        (("10.1.2.3",), "10.1.2.3"),
        (("10.0.0.0/8",), "10.255.0.1"),
        (("10.1.2.3/8",), "10.9.9.9"),  # host bits set: the network is meant
        (("192.0.2.1", " 198.51.100.0/24 "), "198.51.100.7"),
        (("10.1.2.3",), "::ffff:10.1.2.3"),
        (("::ffff:10.1.2.3",), "10.1.2.3"),
        (("::ffff:10.1.0.0/112",), "10.1.255.1"),
        (("2001:db8::/32",), "2001:db8::1"),
        (("0.0.0.0/0", "::/0"), "2001:db8::1"),
    ],
)
def test_an_allowed_address_passes(allowed: tuple[str, ...], ip: str) -> None:
    check_address(app(*allowed), ip)


def test_loopback_is_allowed_unless_the_app_says_otherwise() -> None:
    for ip in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"):
        check_address(App(app_id="1400000001", url_id="test"), ip)


@pytest.mark.parametrize(
    ("allowed", "ip"),
    [
        ((), "127.0.0.1"),
        (("10.1.2.3",), "10.1.2.4"),
        (("10.1.2.3",), "::10.1.2.3"),  # IPv4-compatible is not IPv4-mapped
        (("10.0.0.0/8",), "2001:db8::1"),
        (("::/0",), "10.1.2.3"),
        (("0.0.0.0/0",), "2001:db8::1"),
        (("0.0.0.0/0", "::/0"), ""),
        (("0.0.0.0/0", "::/0"), "localhost"),
        (("0.0.0.0/0", "::/0"), "010.1.2.3"),
        (("0.0.0.0/0", "::/0"), "10.1.2.3:5060"),
    ],
)
def test_any_other_address_is_refused(allowed: tuple[str, ...], ip: str) -> None:
    with pytest.raises(Refused) as refused:
        check_address(app(*allowed), ip)
    assert refused.value.refusal is Refusal.ADDRESS


@pytest.mark.parametrize("entry", ["", "example.com", "10.0.0.0/33", "10.0.0.256", "::1/129"])
def test_a_list_that_cannot_be_read_is_an_error_and_lets_nobody_in(entry: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        networks((entry,))
    with pytest.raises(ValueError, match="does not appear to be"):
        check_address(app("127.0.0.1", entry), "127.0.0.1")
