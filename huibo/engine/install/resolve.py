"""Which Asterisk is used: the one the owner names, else the machine's own if it will do, else a private copy.

Reads the environment through `install_settings` alone: HUIBO_ASTERISK, HUIBO_CACHE_DIR, XDG_CACHE_HOME,
DEBIAN_MIRROR, HUIBO_ASTERISK_SUITE (config.py is for the server; this runs before there is one), and PATH.
Starts no Asterisk and installs nothing outside the cache.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from huibo.engine.install import InstallError, prefix
from huibo.engine.install.binary import Asterisk, from_binary, from_root
from huibo.engine.install.settings import InstallSettings, install_settings
from huibo.engine.install.version import UnsuitableAsterisk, check

# An ordinary user's PATH has no sbin.
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/opt/asterisk/sbin")


class NoAsterisk(InstallError):
    """There is no Asterisk and none can be fetched; the message lists what the owner can do."""


def resolve(
    settings: InstallSettings | None = None, on_progress: prefix.OnProgress = prefix.silent
) -> Asterisk:
    """The Asterisk to use; fetched when there is none (once, a minute at most on a usual line).

    Raises UnsuitableAsterisk when HUIBO_ASTERISK names one that will not do: never something else instead.
    Raises NoAsterisk, InstallError.
    """
    settings = settings or install_settings()
    if settings.asterisk is not None:
        return _suitable(Path(shutil.which(settings.asterisk) or settings.asterisk), "HUIBO_ASTERISK")
    refused: list[str] = []
    for binary in _system():
        try:
            return _suitable(binary, "system")
        except UnsuitableAsterisk as error:
            refused.append(str(error))
    if not all(map(shutil.which, ("apt-get", "dpkg", "dpkg-deb", "tar"))):
        raise NoAsterisk(_choices(refused))
    root = prefix.ensure(settings=settings, on_progress=on_progress, check=check)
    found = from_root(root, "private prefix")
    check(found.version)
    return found


def _suitable(binary: Path, origin: str) -> Asterisk:
    found = from_binary(binary, origin)
    check(found.version)
    return found


def _system() -> list[Path]:
    """The machine's own Asterisks, the one on PATH first."""
    on_path = shutil.which("asterisk")
    usual = (Path(folder, "asterisk") for folder in _SBIN)
    found = ([Path(on_path)] if on_path else []) + [binary for binary in usual if binary.is_file()]
    return list(dict.fromkeys(found))


def _choices(refused: list[str]) -> str:
    return "\n".join(
        [
            "no Asterisk that huibo can use, and none can be fetched here (that needs Debian's apt):",
            *(f"  - {reason}" for reason in refused),
            "choose one:",
            "  - install Asterisk 22.10.1 or newer; it is found in PATH and in /usr/sbin",
            "  - set HUIBO_ASTERISK to the asterisk program of your own build",
            "  - run huibo on Debian or Ubuntu, also in a container: there a private copy is fetched",
        ]
    )
