"""Settings: every one documented, what goes over what, and mistakes told in one line each."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from huibo.config import DEFAULTS, BadSettings, load


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HUIBO_")]:
        monkeypatch.delenv(name)


def written(folder: Path, text: str) -> Path:
    file = folder / "own.toml"
    file.write_text(text, encoding="utf-8")
    return file


def names(settings: BaseModel, before: str = "") -> set[str]:
    """Every setting by its full name."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        found |= names(value, f"{before}{name}.") if isinstance(value, BaseModel) else {f"{before}{name}"}
    return found


def keys(sections: dict[str, Any], before: str = "") -> set[str]:
    """Every key of a TOML document by its full name."""
    found: set[str] = set()
    for name, value in sections.items():
        found |= keys(value, f"{before}{name}.") if value and isinstance(value, dict) else {f"{before}{name}"}
    return found


def test_every_setting_has_a_default_and_every_default_is_a_setting() -> None:
    given = keys(tomllib.loads(DEFAULTS.read_text(encoding="utf-8")))
    assert given == names(load())


def test_every_setting_is_explained_above_it_or_above_its_group() -> None:
    explained, bare = False, []
    for line in DEFAULTS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            explained = True
        elif not line or line.startswith("["):
            explained = False
        elif not explained:
            bare.append(line)
    assert bare == []


def test_the_environment_goes_over_the_file_and_the_file_over_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = load()
    file = written(tmp_path, "[http]\nport = 1\nmax_body_bytes = 2\n[calls]\ncaller_ring_s = 3\n")
    assert load(file).http.port == 1
    monkeypatch.setenv("HUIBO_CONFIG", str(file))
    monkeypatch.setenv("HUIBO_HTTP__PORT", "4")
    monkeypatch.setenv("HUIBO_DATABASE_URL", "sqlite:///elsewhere")
    monkeypatch.setenv("HUIBO_PUSH__STATUS_RETRY_S", "[1.5]")
    settings = load()
    assert (settings.http.port, settings.http.max_body_bytes) == (4, 2)
    assert settings.calls.caller_ring_s == 3
    assert settings.http.host == defaults.http.host
    assert settings.calls.callee_ring_s == defaults.calls.callee_ring_s
    assert settings.database_url == "sqlite:///elsewhere"
    assert settings.push.status_retry_s == [1.5]


def test_a_file_that_is_given_goes_over_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUIBO_CONFIG", str(tmp_path / "missing.toml"))
    assert load(written(tmp_path, "[http]\nport = 1\n")).http.port == 1


def test_other_variables_of_huibo_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = load().model_dump()
    for name in ("ASTERISK", "CACHE_DIR", "INSTANCE", "ASTERISK_SUITE"):
        monkeypatch.setenv(f"HUIBO_{name}", "x")
    monkeypatch.setenv("HUIBO_CONFIG", "")
    assert load().model_dump() == bare


def test_settings_do_not_change() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.http.port = 1
    with pytest.raises(ValueError, match="frozen"):
        settings.database_url = ""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('databse_url = ""', "databse_url: Extra inputs are not permitted"),
        ("[htpp]\nport = 1", "htpp: Extra inputs are not permitted"),
        ("[http]\nprot = 1", "http.prot: Extra inputs are not permitted"),
        ('[http]\nport = "x"', "http.port: Input should be a valid integer"),
        ("[http]\nport = 65536", "http.port: Input should be less than or equal to 65535"),
        ("[calls]\ncaller_ring_s = 0", "calls.caller_ring_s: Input should be greater than 0"),
        ("[calls]\nno_audio_s = -1", "calls.no_audio_s: Input should be greater than or equal to 0"),
        ("[push]\nstatus_retry_s = [1, -1]", "push.status_retry_s.1: Input should be greater than 0"),
        ("[push]\nretry_jitter = 1", "push.retry_jitter: Input should be less than 1"),
        (
            '[push]\nallowed_networks = ["10.0.0.0/8", "x"]',
            "push.allowed_networks: Value error, 'x' does not",
        ),
        ('[log]\nlevel = "loud"', "log.level: Input should be 'debug'"),
        ('[log]\nformat = "xml"', "log.format: Input should be 'json' or 'console'"),
        ("http = 1", "http: Input should be a valid dictionary"),
    ],
)
def test_a_mistake_in_the_file_is_named_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadSettings) as bad:
        load(written(tmp_path, text))
    assert str(bad.value).startswith(complaint)
    assert len(str(bad.value).splitlines()) == 1


def test_each_mistake_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as bad:
        load(written(tmp_path, '[http]\nport = "x"\n[log]\nmask = 7\n'))
    assert [line.split(":")[0] for line in str(bad.value).splitlines()] == ["http.port", "log.mask"]


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("HUIBO_HTTP__PORT", "x", "http.port"),
        ("HUIBO_HTTP__PROT", "1", "http.prot"),
        ("HUIBO_PUSH__CDR_RETRY_S", "not json", "push"),
        ("HUIBO_HTTP", "1", "http"),
    ],
)
def test_a_mistake_in_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=complaint) as bad:
        load()
    assert len(str(bad.value).splitlines()) == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "missing.toml"
    monkeypatch.setenv("HUIBO_CONFIG", str(missing))
    with pytest.raises(BadSettings, match=f"^no such settings file: {missing}$"):
        load()
    file = written(tmp_path, "[http\n")
    with pytest.raises(BadSettings, match=f"^{file}: .*line 1"):
        load(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadSettings, match=f"^{file}: .*utf-8"):
        load(file)


def test_a_password_is_in_no_complaint(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as bad:
        load(written(tmp_path, '[engine]\npassword = ["s3cret"]\n'))
    assert "s3cret" not in str(bad.value)


@pytest.mark.parametrize("network", ["10.1.2.3/8", "10.1.2.3", "2001:db8::/32"])
def test_networks_may_be_written_as_people_do(tmp_path: Path, network: str) -> None:
    file = written(tmp_path, f'[push]\nallowed_networks = ["{network}"]\n')
    assert load(file).push.allowed_networks == [network]
