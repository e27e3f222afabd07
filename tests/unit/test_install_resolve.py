"""The order in which an Asterisk is looked for, with real small programs that say a version."""

from __future__ import annotations

from pathlib import Path

import pytest

from huibo.engine.install import resolve as resolver
from huibo.engine.install.resolve import NoAsterisk, resolve
from huibo.engine.install.settings import SUITES, InstallSettings, install_settings
from huibo.engine.install.version import UnsuitableAsterisk


def program(path: Path, says: str, exit_code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {exit_code}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def asterisk(prefix: Path, version: str, modules: str = "lib/asterisk/modules") -> Path:
    """An installed Asterisk as far as the resolver looks at it."""
    (prefix / modules).mkdir(parents=True)
    (prefix / "share/asterisk/documentation").mkdir(parents=True)
    return program(prefix / "sbin/asterisk", f"Asterisk {version}")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstallSettings:
    """A machine without any Asterisk and without apt."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(resolver, "_SBIN", ())
    return InstallSettings(cache=tmp_path / "cache")


def named(settings: InstallSettings, binary: Path | str) -> InstallSettings:
    return InstallSettings(cache=settings.cache, asterisk=str(binary))


def test_the_named_one_is_used_with_the_modules_of_its_own_prefix(
    settings: InstallSettings, tmp_path: Path
) -> None:
    binary = asterisk(tmp_path / "opt", "22.10.1+dfsg-1")
    found = resolve(named(settings, binary))
    assert (found.argv, found.version, found.origin) == ((str(binary),), "22.10.1", "HUIBO_ASTERISK")
    assert found.modules == tmp_path / "opt/lib/asterisk/modules"
    assert found.data == tmp_path / "opt/share/asterisk"


@pytest.mark.parametrize("modules", ["lib/x86_64-linux-gnu/asterisk/modules", "lib64/asterisk/modules"])
def test_modules_are_found_where_distributions_put_them(
    settings: InstallSettings, tmp_path: Path, modules: str
) -> None:
    found = resolve(named(settings, asterisk(tmp_path / "opt", "22.10.1", modules)))
    assert found.modules == tmp_path / "opt" / modules


def test_a_build_from_source_has_its_data_in_var(settings: InstallSettings, tmp_path: Path) -> None:
    binary = program(tmp_path / "opt/sbin/asterisk", "Asterisk 22.10.1")
    (tmp_path / "opt/lib/asterisk/modules").mkdir(parents=True)
    (tmp_path / "opt/var/lib/asterisk/documentation").mkdir(parents=True)
    assert resolve(named(settings, binary)).data == tmp_path / "opt/var/lib/asterisk"


def test_a_wrapper_beside_an_unpacked_root_is_understood(settings: InstallSettings, tmp_path: Path) -> None:
    wrapper = program(tmp_path / "ast/asterisk", "Asterisk 22.10.1")
    modules = tmp_path / "ast/root/usr/lib/x86_64-linux-gnu/asterisk/modules"
    modules.mkdir(parents=True)
    found = resolve(named(settings, wrapper))
    assert found.modules == modules
    assert found.data == tmp_path / "ast/root/usr/share/asterisk"


def test_a_name_is_looked_up_in_path(
    settings: InstallSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = asterisk(tmp_path / "opt", "22.10.1")
    monkeypatch.setenv("PATH", str(binary.parent))
    assert resolve(named(settings, "asterisk")).argv == (str(binary),)


@pytest.mark.parametrize("version", ["22.9.0", "20.6.0"])
def test_an_unsuitable_named_one_is_an_error_though_a_good_one_is_there(
    settings: InstallSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    good = asterisk(tmp_path / "good", "22.10.1")
    monkeypatch.setenv("PATH", str(good.parent))
    bad = asterisk(tmp_path / "bad", version)
    with pytest.raises(UnsuitableAsterisk, match=version):
        resolve(named(settings, bad))


def test_a_named_one_that_is_missing_or_does_not_run_is_an_error(
    settings: InstallSettings, tmp_path: Path
) -> None:
    with pytest.raises(UnsuitableAsterisk, match="does not run"):
        resolve(named(settings, tmp_path / "nothing"))
    broken = program(tmp_path / "broken", "libfoo is missing", exit_code=127)
    with pytest.raises(UnsuitableAsterisk, match=r"exit code 127.*libfoo is missing"):
        resolve(named(settings, broken))


def test_the_one_of_the_system_is_used_when_it_will_do(
    settings: InstallSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = asterisk(tmp_path / "usr", "22.10.1")
    monkeypatch.setenv("PATH", str(binary.parent))
    assert resolve(settings).origin == "system"


def test_an_unsuitable_one_on_path_gives_way_to_a_good_one_in_sbin(
    settings: InstallSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, good = asterisk(tmp_path / "old", "20.6.0"), asterisk(tmp_path / "good", "22.10.1")
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setattr(resolver, "_SBIN", (str(good.parent),))
    assert resolve(settings).argv == (str(good),)


def test_without_any_the_choices_are_listed_and_what_was_refused(
    settings: InstallSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = asterisk(tmp_path / "old", "20.6.0")
    monkeypatch.setenv("PATH", str(old.parent))
    with pytest.raises(NoAsterisk) as error:
        resolve(settings)
    for said in ("20.6.0 is too old", "HUIBO_ASTERISK", "22.10.1 or newer", "container"):
        assert said in str(error.value)


def test_settings_come_from_the_environment_and_empty_is_unset() -> None:
    home = Path.home() / ".cache/huibo"
    assert install_settings({"HUIBO_ASTERISK": "", "DEBIAN_MIRROR": ""}) == InstallSettings(cache=home)
    assert install_settings({"XDG_CACHE_HOME": "/x"}).cache == Path("/x/huibo")
    given = {
        "HUIBO_ASTERISK": "/a/asterisk",
        "HUIBO_CACHE_DIR": "/c",
        "XDG_CACHE_HOME": "/x",
        "DEBIAN_MIRROR": "http://mirror.example/debian/",
        "HUIBO_ASTERISK_SUITE": "sid",
    }
    assert install_settings(given) == InstallSettings(
        cache=Path("/c"), asterisk="/a/asterisk", mirror="http://mirror.example/debian", suites=("sid",)
    )
    assert install_settings({}).suites == SUITES
