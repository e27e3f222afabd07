"""What the carrier writes: configuration for loopback alone, a log and a folder for recordings."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from huibo.engine.install.binary import Asterisk
from huibo.sandbox.carrier import Account, Carrier, Terms, Tls
from huibo.sandbox.phones import Phone, Refuse

_USR = Path("/usr")
ASTERISK = Asterisk(
    ("/usr/sbin/asterisk",), _USR / "lib/asterisk/modules", _USR / "share/asterisk", "22.10.1", "system"
)


@pytest.fixture
def carrier(tmp_path: Path) -> Carrier:
    return Carrier.create(ASTERISK, tmp_path / "carrier", 25060)


def conf(carrier: Carrier, name: str) -> str:
    return (carrier.instance.etc / name).read_text()


def test_it_is_complete_in_its_folder(carrier: Carrier) -> None:
    assert carrier.calls_log.read_bytes() == b""
    assert carrier.heard_dir.is_dir()
    for file in carrier.instance.etc.iterdir():
        assert "@{" not in file.read_text()


def test_everything_it_binds_is_on_loopback(carrier: Carrier) -> None:
    pjsip = conf(carrier, "pjsip.conf")
    assert "bind=127.0.0.1:25060\n" in pjsip
    assert "media_address=127.0.0.1\nbind_rtp_to_media_address=yes\n" in pjsip
    assert "match=127.0.0.1\n" in pjsip
    modules = conf(carrier, "modules.conf")
    assert "autoload=no" in modules
    assert not any(word in modules for word in ("http", "ari", "manager", "stasis"))


def test_its_dialplan_writes_to_its_own_folder(carrier: Carrier) -> None:
    plan = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",), allow_no_value=True)
    plan.optionxform = str  # type: ignore[method-assign,assignment]
    plan.read_string("\n".join(line.lstrip() for line in conf(carrier, "extensions.conf").splitlines()))
    assert plan["globals"]["CALLS_LOG"] == str(carrier.calls_log)
    assert plan["globals"]["HEARD_DIR"] == str(carrier.heard_dir)
    named = {"network", "phones", "ring", "answer", "press", "announce", "refuse", "hang_up", "over", "log"}
    assert named | {"general", "globals", "registered"} == set(plan.sections())


def test_what_earlier_runs_left_stays(carrier: Carrier) -> None:
    carrier.calls_log.write_text("earlier\n")
    (carrier.heard_dir / "earlier.wav").touch()
    again = Carrier.create(ASTERISK, carrier.instance.folder, 25061)
    assert again.calls_log.read_text() == "earlier\n"
    assert (again.heard_dir / "earlier.wav").exists()
    assert "bind=127.0.0.1:25061\n" in conf(again, "pjsip.conf")


@pytest.mark.parametrize("name", ["a,b", "a;b", "a(b", "a b)", "a${b}", 'a"b', "a&b", "a|b"])
def test_a_folder_that_a_dialplan_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot run in"):
        Carrier.create(ASTERISK, tmp_path / name, 25060)
    assert not (tmp_path / name).exists()


def test_a_folder_with_a_chinese_name_will_do(tmp_path: Path) -> None:
    carrier = Carrier.create(ASTERISK, tmp_path / "回拨", 25060)
    assert f"HEARD_DIR={carrier.heard_dir}\n" in conf(carrier, "extensions.conf")


def test_a_recording_is_closed_before_its_call_is_told_to_be_over(carrier: Carrier) -> None:
    over = conf(carrier, "extensions.conf").partition("\n[over]\n")[2].partition("\n[log]\n")[0]
    assert 0 < over.index("StopMixMonitor()") < over.index("Gosub(log,text,1(hung_up,by,${BY}))")


def test_a_plain_carrier_asks_nobody_and_has_no_tls(carrier: Carrier) -> None:
    pjsip = conf(carrier, "pjsip.conf")
    assert "protocol=tcp\nbind=127.0.0.1:25060\n" in pjsip
    assert not any(word in pjsip for word in ("auth", "aor", "protocol=tls"))
    assert "context=network\n" in pjsip


def test_terms_change_whom_it_serves_and_what_its_phones_do(tmp_path: Path) -> None:
    busy = Phone("05", (Refuse(486),), "busy", "忙")
    tls = Tls(25061, tmp_path / "certificate.pem", tmp_path / "key.pem")
    terms = Terms(Account("user", "a;b", register=True), tls, phones=(busy,), otherwise=busy)
    carrier = Carrier.create(ASTERISK, tmp_path / "carrier", 25060, terms)
    pjsip = conf(carrier, "pjsip.conf")
    assert "auth=engine\naors=user\n" in pjsip
    assert "username=user\npassword=a\\;b\n" in pjsip  # else the semicolon began a comment
    assert f"bind=127.0.0.1:25061\ncert_file={tls.certificate}\n" in pjsip
    assert "context=registered\n" in pjsip
    plan = conf(carrier, "extensions.conf")
    assert "PJSIP_AOR(user,contact)" in plan
    assert "exten => 05,1," in plan
    assert "exten => 00,1," not in plan
