"""The private prefix: Debian packages of another suite, unpacked in the cache and run by their own loader.

Needs no root and changes nothing on the machine. Each prefix is made once, in a folder beside its place, and
renamed into it when it is whole; a finished one is never changed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huibo.engine.install import InstallError
from huibo.engine.install.apt import Apt, Download, architecture, machine_mirror
from huibo.engine.install.binary import root_argv
from huibo.engine.install.settings import InstallSettings, install_settings

# What a program under its own loader never reads: /etc, /var and time zones are those of the machine.
_LEFT_OUT = (
    *("./etc", "./var", "./usr/share/doc", "./usr/share/man", "./usr/share/info", "./usr/share/locale"),
    *(
        "./usr/share/perl*",
        "./usr/lib/*/perl*",
        "./usr/lib/python3*",
        "./usr/lib/*/gconv",
        "./usr/share/zoneinfo",
    ),
    *("./usr/share/snmp", "./usr/share/bug", "./usr/share/lintian", "./usr/share/bash-completion"),
)
# Downloaded archives and what comes out of them stand side by side for a moment.
_ROOM = 4.5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is. `download` counts bytes, `unpack` packages; the others have no measure (total 0)."""

    stage: Literal["wait", "lists", "download", "unpack"]
    done: int = 0
    total: int = 0


OnProgress = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The default listener."""


def _any(_: str) -> None:
    """The default judge of versions."""


def ensure(
    packages: tuple[str, ...] = ("asterisk",),
    probe: str = "usr/sbin/asterisk",
    settings: InstallSettings | None = None,
    on_progress: OnProgress = silent,
    check: Callable[[str], None] = _any,
) -> Path:
    """The root folder that holds the packages and all they need; built when it is not there yet.

    `probe` is the program wanted; `check` raises InstallError for a version (of the first package) that will
    not do. Raises InstallError with one line that says what to do.
    """
    settings = settings or install_settings()
    if set(str(settings.cache)) & set(":;"):
        raise InstallError(
            f"the loader takes no ':' or ';' in a path, and {settings.cache} has one: set HUIBO_CACHE_DIR"
        )
    home = settings.cache / "prefix"
    try:
        if found := _finished(home, packages[0], probe, settings.suites, check):
            return found
        home.mkdir(parents=True, exist_ok=True)
        if os.statvfs(home).f_flag & os.ST_NOEXEC:
            raise InstallError(f"programs may not run from {home} (noexec): set HUIBO_CACHE_DIR")
        with _alone(home / f".{packages[0]}.lock", on_progress):
            return _finished(home, packages[0], probe, settings.suites, check) or _build(
                home, packages, probe, settings, on_progress, check
            )
    except OSError as error:
        raise InstallError(f"cannot use the cache {settings.cache} ({error}): set HUIBO_CACHE_DIR") from error


def _finished(
    home: Path, package: str, probe: str, suites: tuple[str, ...], check: Callable[[str], None]
) -> Path | None:
    """The newest prefix that is there already and will do, of the first suite that has one."""
    arch = architecture()
    for suite in suites:
        start = f"{package}-{suite}-{arch}-"
        made = [root for root in home.glob(f"{start}*") if (root / probe).is_file()]
        for root in sorted(made, key=lambda root: root.stat().st_mtime, reverse=True):
            with suppress(InstallError):
                check(root.name.removeprefix(start))
                return root
    return None


@contextmanager
def _alone(lock: Path, on_progress: OnProgress) -> Iterator[None]:
    """Only one process builds; the others wait here and then find it done. The lock dies with its owner."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress(Progress("wait"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(
    home: Path,
    packages: tuple[str, ...],
    probe: str,
    settings: InstallSettings,
    on_progress: OnProgress,
    check: Callable[[str], None],
) -> Path:
    for leftover in home.glob(f".{packages[0]}-*.part"):  # of a build that was killed: we hold the lock
        shutil.rmtree(leftover)
    work = Path(tempfile.mkdtemp(prefix=f".{packages[0]}-", suffix=".part", dir=home))
    try:
        on_progress(Progress("lists"))
        suite, apt, download = _choose(work, packages, settings, check)
        _need_room(home, download)
        archives = apt.download(
            packages, lambda done: on_progress(Progress("download", done, download.bytes))
        )
        root = work / "root"
        _unpack(archives, root, on_progress)
        _try(root, probe)
        place = home / f"{packages[0]}-{suite}-{architecture()}-{download.version(packages[0])}"
        os.utime(root)  # when it was made, not what a package says
        if place.exists():
            shutil.rmtree(place)  # somebody took the program out of it, else it would have been found
        root.rename(place)
        return place
    finally:
        shutil.rmtree(work)  # the mirror's name goes with it


def _choose(
    work: Path, packages: tuple[str, ...], settings: InstallSettings, check: Callable[[str], None]
) -> tuple[str, Apt, Download]:
    """The first suite that has the packages in a version that will do."""
    mirror = settings.mirror or machine_mirror()
    refused: list[str] = []
    for suite in settings.suites:
        apt = Apt(work / f"apt-{suite}", mirror, suite)
        apt.update()  # when this fails it is the network, and another suite is no better
        try:
            download = apt.plan(packages)
            check(download.version(packages[0]))
        except InstallError as error:
            refused.append(str(error))
            continue
        return suite, apt, download
    raise InstallError("; ".join(refused))


def _need_room(home: Path, download: Download) -> None:
    need, free = int(download.bytes * _ROOM), shutil.disk_usage(home).free
    if free < need:
        raise InstallError(
            f"{home} needs {need // 10**6} MB and has {free // 10**6} MB: make room, or set HUIBO_CACHE_DIR"
        )


def _unpack(archives: list[Path], root: Path, on_progress: OnProgress) -> None:
    root.mkdir(mode=0o755)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for done, _ in enumerate(pool.map(lambda archive: _unpack_one(archive, root), archives), 1):
            on_progress(Progress("unpack", done, len(archives)))


def _unpack_one(archive: Path, root: Path) -> None:
    """Without set-user-id bits and foreign owners, also when root does it."""
    left_out = (f"--exclude={pattern}" for pattern in _LEFT_OUT)
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as opened:
        tar = ["tar", "-x", "--no-same-owner", "--no-same-permissions", *left_out, "-C", str(root)]
        done = subprocess.run(tar, stdin=opened.stdout, stderr=subprocess.PIPE, text=True)
    if opened.returncode or done.returncode:
        raise InstallError(f"cannot unpack {archive.name}: {done.stderr.strip() or 'dpkg-deb failed'}")


def _try(root: Path, probe: str) -> None:
    """The loader runs here and finds all libraries of the program."""
    loader, *words = root_argv(root, probe)
    listed = subprocess.run([loader, *words[:-3], "--list", words[-1]], capture_output=True, text=True)
    if listed.returncode or "not found" in listed.stdout:
        missing = [line.strip() for line in listed.stdout.splitlines() if "not found" in line] or [
            listed.stderr
        ]
        raise InstallError(f"{probe} was unpacked but does not link: {missing[0].strip()}")
