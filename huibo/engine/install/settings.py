"""What the owner may decide about where Asterisk comes from, read from the environment in one place.

config.py holds the settings of the server; this is read before there is one, by the installer alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The last stable releases of Debian have no Asterisk. Testing may drop it again; unstable keeps it.
SUITES = ("forky", "sid")


@dataclass(frozen=True, slots=True)
class InstallSettings:
    """HUIBO_ASTERISK, HUIBO_CACHE_DIR (else XDG_CACHE_HOME), DEBIAN_MIRROR, HUIBO_ASTERISK_SUITE."""

    cache: Path
    asterisk: str | None = None  # use this one and no other
    mirror: str | None = None  # else the one that this machine's apt uses
    suites: tuple[str, ...] = SUITES  # tried in this order


def install_settings(environment: Mapping[str, str] = os.environ) -> InstallSettings:
    """The settings that the environment gives; an empty variable counts as unset."""
    get = environment.get
    base = Path(get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return InstallSettings(
        cache=Path(get("HUIBO_CACHE_DIR") or base / "huibo").absolute(),
        asterisk=get("HUIBO_ASTERISK") or None,
        mirror=(get("DEBIAN_MIRROR") or "").rstrip("/") or None,
        suites=(suite,) if (suite := get("HUIBO_ASTERISK_SUITE")) else SUITES,
    )
