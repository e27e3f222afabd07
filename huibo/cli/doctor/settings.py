"""Doctor: the settings and the file that they come from."""

from __future__ import annotations

import stat
from collections.abc import Generator

from huibo import config
from huibo.findings import Finding, fail, ok, warn

_TOPIC = "settings"


def examine() -> Generator[Finding, None, config.Settings | None]:
    """Returns the settings, None where they cannot be used."""
    try:
        settings = config.load()
    except config.BadSettings as error:
        for line in str(error).splitlines():
            yield fail(_TOPIC, line, "correct it; huibo/config.default.toml explains each")
        return None
    file = config.file_in_use()
    yield ok(_TOPIC, f"{file or 'the defaults and the environment; HUIBO_CONFIG names no file'}")
    if file is not None and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield warn(_TOPIC, f"others may read {file}, and a password is in it", f"chmod 600 {file}")
    if settings.engine.password == "huibo":
        yield warn(_TOPIC, "[engine] password is the default one", "choose a long one, here and in ari.conf")
    return settings
