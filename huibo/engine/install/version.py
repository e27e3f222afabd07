"""Which versions of Asterisk huibo can work with, and why not the others.

Pure: it is asked with what `asterisk -V` prints or a running Asterisk reports, wherever that one came from.
"""

from __future__ import annotations

import re

from huibo.engine.install import InstallError

# REST requests inside the ARI WebSocket came to each branch with this release; 19 and older never got them.
REST_IN_WEBSOCKET = {20: (20, 14, 0), 21: (21, 9, 0), 22: (22, 4, 0)}
# 22.9.0 deadlocks at a hundred ARI calls a minute (asterisk#1962, #1907, #1928); 22.10.1 was tested.
DEADLOCKS_FROM, TESTED_FROM = (22, 9, 0), (22, 10, 1)

_WAY_OUT = "unset HUIBO_ASTERISK to use the private copy, or point it at 22.10.1 or newer"
_NUMBER = re.compile(r"(?<![\w.-])(?:certified[/-])?(\d+)\.(\d+)(?:\.(\d+))?")


class UnsuitableAsterisk(InstallError):
    """An Asterisk that huibo does not work with."""


def parse(text: str) -> str:
    """The version number in `Asterisk 22.10.1+dfsg-1` or `22.10.1`: "22.10.1"; a missing third part is 0.

    Raises UnsuitableAsterisk when there is none, as in a build from git.
    """
    return ".".join(map(str, _numbers(text)))


def check(version: str) -> None:
    """Raise UnsuitableAsterisk unless huibo works with `version` (anything that `parse` takes)."""
    number = _numbers(version)
    shown = ".".join(map(str, number))
    if DEADLOCKS_FROM <= number < TESTED_FROM:
        raise UnsuitableAsterisk(f"Asterisk {shown} is known to deadlock under ARI load; {_WAY_OUT}")
    if number < REST_IN_WEBSOCKET.get(number[0], (23, 0, 0)):
        raise UnsuitableAsterisk(
            f"Asterisk {shown} is too old: REST over the ARI WebSocket needs 20.14, 21.9 or 22.4; {_WAY_OUT}"
        )


def _numbers(text: str) -> tuple[int, int, int]:
    found = _NUMBER.search(text)
    if found is None:
        raise UnsuitableAsterisk(f"no version number in {text.strip()[:80]!r}; {_WAY_OUT}")
    return int(found[1]), int(found[2]), int(found[3] or 0)
