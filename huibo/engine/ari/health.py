"""What Asterisk tells of the lines to carriers: the outcomes of OPTIONS, and registrations.

Takes events and lists; asks for nothing by itself. Never guesses: what is not known is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from huibo.engine.ari.objects import contacts_of, registration_key, watched
from huibo.model import Trunk
from huibo.ports import LineHealth

REGISTRATIONS = "asterisk_pjsip_outbound_registration_status"
_REGISTRATION = re.compile(
    REGISTRATIONS + r'\{[^}]*?username="(?P<client>[^"]*)",domain="(?P<server>[^"]*)"[^}]*\} (?P<status>\d)'
)
_REGISTERED = "1"


@dataclass(slots=True)
class _Line:
    trunk: Trunk
    up: dict[str, bool] = field(default_factory=dict)  # by address of record
    roundtrip_ms: dict[str, float] = field(default_factory=dict)
    first: bool | None = None  # how it was found, as long as nothing else is known
    registered: bool = False


class Health:
    """The lines of one connection to Asterisk."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._refused: dict[str, str] = {}
        self._registrations_seen = False

    def forget(self) -> None:
        self._registrations_seen = False
        self._lines.clear()
        self._refused.clear()

    def begin(self, trunk: Trunk) -> None:
        """Asterisk is about to get a trunk as it is now. What was known of it holds where nothing changes."""
        before = self._lines.get(trunk.name)
        line = self._lines[trunk.name] = _Line(trunk)
        if before is None:
            return
        old, new = contacts_of(before.trunk), contacts_of(trunk)
        same = {record for record in new if old.get(record) == new[record]} if trunk.options_s else set()
        line.up = {record: up for record, up in before.up.items() if record in same}
        line.roundtrip_ms = {record: ms for record, ms in before.roundtrip_ms.items() if record in same}
        if same == new.keys():
            line.first = before.first
        if before.trunk.register and registration_key(before.trunk) == registration_key(trunk):
            line.registered = before.registered

    def begun(self, name: str, found_up: bool | None = None) -> None:
        """Asterisk has it. `found_up`: what it says of one that it had already."""
        self._refused.pop(name, None)
        if found_up is not None and name in self._lines:
            self._lines[name].first = found_up

    def end(self, name: str) -> None:
        self._lines.pop(name, None)
        self._refused.pop(name, None)

    def refuse(self, name: str, reason: str) -> bool:
        """Asterisk will not have a trunk. Whether that is news."""
        news = self._refused.get(name) != reason
        self._refused[name] = reason
        return news

    def take(self, event: dict[str, Any]) -> None:
        """An event; most tell nothing of a line."""
        if event.get("type") != "ContactStatusChange":
            return
        name, contact = watched(event["endpoint"]["resource"]), event["contact_info"]
        line = self._lines.get(name) if name is not None else None
        record = contact["aor"]
        if line is None or contacts_of(line.trunk).get(record) != contact["uri"]:
            return  # it has another address by now
        if contact["contact_status"] not in ("Reachable", "Unreachable"):
            line.up.pop(record, None)
            return
        line.up[record] = contact["contact_status"] == "Reachable"
        line.roundtrip_ms[record] = int(contact.get("roundtrip_usec") or 0) / 1000

    def take_registrations(self, metrics: str) -> None:
        """What Asterisk lists of registrations. One of which it lists nothing has not succeeded yet."""
        states = {(one["client"], one["server"]): one["status"] for one in _REGISTRATION.finditer(metrics)}
        self._registrations_seen = True
        for line in self._lines.values():
            if line.trunk.register:
                line.registered = states.get(registration_key(line.trunk)) == _REGISTERED

    @property
    def registering(self) -> bool:
        """Some trunk registers: the list is worth looking at."""
        return any(line.trunk.register for line in self._lines.values())

    @property
    def unregistered(self) -> bool:
        """Some trunk should be registered and is not."""
        return any(line.trunk.register and not line.registered for line in self._lines.values())

    def of(self, name: str) -> LineHealth:
        line = self._lines.get(name)
        if name in self._refused:
            return LineHealth(reachable=False)
        if line is None:
            return LineHealth()
        up = next((record for record in contacts_of(line.trunk) if line.up.get(record)), None)
        return LineHealth(
            reachable=_reachable(line),
            registered=line.registered if line.trunk.register and self._registrations_seen else None,
            roundtrip_ms=line.roundtrip_ms[up] if up is not None else None,
        )


def _reachable(line: _Line) -> bool | None:
    if not line.trunk.options_s:
        return None
    if any(line.up.values()):
        return True
    if len(line.up) == len(contacts_of(line.trunk)):
        return False
    return None if line.up else line.first
