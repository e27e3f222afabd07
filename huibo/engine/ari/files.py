"""What only Asterisk's own files tell `huibo doctor`, where they can be read: they are few and small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huibo.findings import Finding, ok, warn

_TOPIC = "engine"
_FEW_PORTS = 400  # a call takes four: a hundred calls
_SESSIONS, _WRITE_MS = 1000, 5000
_RTP_DEFAULTS = (5000, 31000)


def examine(folder: Path | None) -> Iterator[Finding]:
    """`folder`: None where it is on another machine; what cannot be read is not spoken of."""
    if folder is None:
        return
    if (rtp := _values(folder / "rtp.conf", "general")) is not None:
        yield _rtp(rtp)
    if (http := _values(folder / "http.conf", "general")) is not None:
        sessions = _number(http.get("sessionlimit"), 100)
        if sessions < _SESSIONS:
            text = f"http.conf allows {sessions} sessions: too few for a busy server"
            yield warn(_TOPIC, text, f"sessionlimit={_SESSIONS}")
    if (ari := _values(folder / "ari.conf", "general")) is not None:
        write_ms = _number(ari.get("websocket_write_timeout"), 100)
        if write_ms < _WRITE_MS:
            text = f"ari.conf drops the connection of a server that is busy for {write_ms} ms"
            yield warn(_TOPIC, text, f"websocket_write_timeout={_WRITE_MS}")
    if (zone := _values(folder / "indications.conf", "cn")) is not None and "ring" not in zone:
        yield warn(_TOPIC, "indications.conf has no ringing tone of zone cn: callers hear none", "add [cn]")


def _rtp(values: dict[str, str]) -> Finding:
    first = _number(values.get("rtpstart"), _RTP_DEFAULTS[0])
    last = _number(values.get("rtpend"), _RTP_DEFAULTS[1])
    text = f"RTP ports {first} to {last}"
    hint = "rtpstart and rtpend in rtp.conf; open them in the firewall, UDP"
    if not 1024 <= first < last <= 65535:
        return warn(_TOPIC, f"{text} are no range", hint)
    if (calls := (last - first + 1) // 4) < _FEW_PORTS // 4:
        return warn(_TOPIC, f"{text} are enough for {calls} calls at once", hint)
    return ok(_TOPIC, text)


def _values(file: Path, section: str) -> dict[str, str] | None:
    """The values of a section; None for a file that cannot be read."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found: dict[str, str] = {}
    inside = False
    for line in (line.partition(";")[0].strip() for line in lines):
        if line.startswith("["):
            inside = line.startswith(f"[{section}]")
        elif inside and "=" in line:
            name, _, value = line.partition("=")
            found[name.strip().lower()] = value.removeprefix(">").strip()
    return found


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdigit() else default
