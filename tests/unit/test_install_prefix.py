"""What the prefix decides without a network: versions, room, paths, and which finished one is taken."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from huibo.engine.install import InstallError, apt
from huibo.engine.install.apt import Download
from huibo.engine.install.prefix import ensure
from huibo.engine.install.settings import InstallSettings

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg") is None, reason="not Debian")


def finished(cache: Path, name: str, made: float) -> Path:
    root = cache / "prefix" / name
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/sipp").touch()
    os.utime(root, (made, made))
    return root


def test_a_download_knows_its_size_and_the_version_without_epoch() -> None:
    download = Download(
        {"asterisk_1%3a22.10.1+dfsg-1_amd64.deb": 2_500_000, "libc6_2.43-7_amd64.deb": 1_800_000}
    )
    assert download.bytes == 4_300_000
    assert download.version("asterisk") == "22.10.1+dfsg-1"
    assert download.version("libc6") == "2.43-7"
    with pytest.raises(InstallError, match="sip-tester"):
        download.version("sip-tester")


@pytest.mark.parametrize("character", [":", ";"])
def test_a_cache_path_that_the_loader_cannot_take_is_refused(tmp_path: Path, character: str) -> None:
    with pytest.raises(InstallError, match="HUIBO_CACHE_DIR"):
        ensure(settings=InstallSettings(cache=tmp_path / f"a{character}b"))


@needs_dpkg
def test_the_newest_finished_one_of_the_first_suite_is_taken(tmp_path: Path) -> None:
    arch = apt.architecture()
    finished(tmp_path, f"sip-tester-sid-{arch}-3.9", made=3e9)
    finished(tmp_path, f"sip-tester-forky-{arch}-3.7", made=1e9)
    newest = finished(tmp_path, f"sip-tester-forky-{arch}-3.8", made=2e9)
    finished(tmp_path, f"sip-tester-forky-{arch}-3.6", made=1e9)
    (tmp_path / f"prefix/sip-tester-forky-{arch}-4.0").mkdir()  # holds no program
    settings = InstallSettings(cache=tmp_path, mirror="http://127.0.0.1:1/debian")
    assert ensure(("sip-tester",), "usr/bin/sipp", settings) == newest


@needs_dpkg
def test_a_finished_one_that_will_not_do_any_more_is_passed_over(tmp_path: Path) -> None:
    arch = apt.architecture()
    good = finished(tmp_path, f"sip-tester-forky-{arch}-3.7", made=1e9)
    finished(tmp_path, f"sip-tester-forky-{arch}-3.8", made=2e9)

    def refuse(version: str) -> None:
        if version == "3.8":
            raise InstallError("known bad")

    settings = InstallSettings(cache=tmp_path, mirror="http://127.0.0.1:1/debian")
    assert ensure(("sip-tester",), "usr/bin/sipp", settings, check=refuse) == good


@needs_dpkg
def test_a_cache_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InstallError, match="set HUIBO_CACHE_DIR"):
        ensure(settings=InstallSettings(cache=tmp_path / "file/cache"))


def test_the_line_of_apt_that_tells_is_found() -> None:
    output = (
        "Ign:1 forky InRelease\nReading package lists...\nW: a hint\nE: Failed to fetch x\nE: Some failed\n"
    )
    assert apt._complaint(output) == "Failed to fetch x"
    assert apt._complaint("W: only a hint\nDone\n") == "only a hint"
    assert apt._complaint("tar: broken\n") == "tar: broken"
    assert apt._complaint("") == "no message"
