"""`huibo asterisk`: the folder of an Asterisk as the settings say, without starting it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from huibo.cli import asterisk as module
from huibo.cli.asterisk import commands
from huibo.cli.output import Failed
from huibo.engine.install import InstallError
from huibo.engine.install.binary import Asterisk

FOUND = Asterisk(("/usr/sbin/asterisk",), Path("/modules"), Path("/data"), "22.10.1", "system")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings with a password of their own, and an Asterisk that need not be looked for."""
    for name in [name for name in os.environ if name.startswith("HUIBO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HUIBO_ENGINE__URL", "http://127.0.0.1:8099")
    monkeypatch.setenv("HUIBO_ENGINE__PASSWORD", "geheim")
    monkeypatch.setattr(module, "resolve", lambda **_: FOUND)


def run(*words: str) -> str:
    result = CliRunner().invoke(commands, words, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def refused(*words: str) -> str:
    with pytest.raises(Failed) as failed:
        CliRunner().invoke(commands, words, catch_exceptions=False, standalone_mode=False)
    return str(failed.value)


def conf(folder: Path, name: str) -> str:
    return (folder / "etc" / name).read_text()


def test_the_folder_is_as_the_settings_say(tmp_path: Path) -> None:
    folder = tmp_path / "asterisk"
    assert "Asterisk 22.10.1 (system) is ready" in run(str(folder), "--rtp", "31000-32000")
    assert [name for name in os.listdir(folder / "etc") if "@{" in conf(folder, name)] == []
    assert "bindport=8099" in conf(folder, "http.conf")
    assert "password=geheim" in conf(folder, "ari.conf")
    assert "bind=0.0.0.0:5060" in conf(folder, "pjsip.conf")
    assert "rtpstart=31000\nrtpend=32000" in conf(folder, "rtp.conf")
    assert "external" not in conf(folder, "pjsip.conf")
    for script in ("start", "console"):
        assert stat.S_IMODE((folder / script).stat().st_mode) == 0o700
        assert str(folder / "etc/asterisk.conf") in (folder / script).read_text()


def test_behind_nat_every_transport_says_so(tmp_path: Path) -> None:
    run(
        *(str(tmp_path), "--sip", "[::]:5070", "--public-address", "203.0.113.5"),
        *("--local-net", "10.0.0.0/8", "--local-net", "192.168.0.0/16"),
    )
    written = conf(tmp_path, "pjsip.conf")
    assert "bind=[::]:5070" in written
    lines = ("external_media_address=203.0.113.5", "external_signaling_address=203.0.113.5")
    for line in (*lines, "local_net=10.0.0.0/8", "local_net=192.168.0.0/16"):
        assert written.count(f"{line}\n") == written.count("type=transport\n") > 1


def test_it_may_be_run_again(tmp_path: Path) -> None:
    run(str(tmp_path), "--sip", "0.0.0.0:5070")
    run(str(tmp_path))
    assert "5070" not in conf(tmp_path, "pjsip.conf")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--sip", "5060"], "ADDRESS:PORT"),
        (["--sip", "0.0.0.0:0"], "ADDRESS:PORT"),
        (["--sip", "host.example:5060"], "host.example"),
        (["--sip", "0.0.0.0:5061"], "a port of its own"),
        (["--rtp", "10000"], "FIRST-LAST"),
        (["--rtp", "20000-10000"], "FIRST-LAST"),
        (["--public-address", "call.example.com"], "call.example.com"),
        (["--local-net", "10.0.0.1/8"], "host bits"),
        (["--ca-file", "/nowhere.pem"], "apt install ca-certificates"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, words: list[str], why: str) -> None:
    assert why in refused(str(tmp_path / "new"), *words)
    assert not (tmp_path / "new").exists()


def test_a_password_that_everybody_knows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUIBO_ENGINE__PASSWORD")
    assert "engine.password" in refused(str(tmp_path))


def test_an_engine_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUIBO_ENGINE__URL", "http://192.0.2.1:8088")
    assert "same machine" in refused(str(tmp_path))


def test_no_asterisk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: object) -> Asterisk:
        raise InstallError("no Asterisk to be had")

    monkeypatch.setattr(module, "resolve", none)
    assert refused(str(tmp_path)) == "no Asterisk to be had"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file" in refused(str(tmp_path / "file" / "asterisk"))
