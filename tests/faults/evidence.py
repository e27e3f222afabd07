"""What a run of faults leaves behind: what was asked, what arrived, what the phones and the engine saw.

Holds data and its JSON form, decides nothing. All times are UNIX milliseconds on the machine's own clock,
never on the control plane's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from huibo.sandbox.journal import PhoneEvent, PhoneMoment


@dataclass(slots=True)
class Answer:
    """One answer to a request. `call_id`: as it was answered, None when there was none in it."""

    at: int
    error_code: str
    call_id: str | None = None


@dataclass(slots=True)
class Asked:
    """One callback request as its customer remembers it."""

    key: str  # Idempotency-Key
    body: dict[str, str]  # as posted, preCallerHandle as JSON text; src and dst are in no other request
    sent_at: int
    answers: list[Answer] = field(default_factory=list)  # also those to repeats with the same key


@dataclass(slots=True)
class Arrived:
    """One push as a receiver got it. `answered`: "200", "500", "hang", "redirect", "drip", "cut"."""

    at: int
    receiver: str
    kind: str
    body: dict[str, str]
    webhook_id: str
    answered: str


@dataclass(slots=True)
class Fault:
    """One fault as it was done. `ended_at`: when the world was whole again."""

    name: str
    began_at: int
    ended_at: int


@dataclass(slots=True)
class Held:
    """One look at an engine's lists of channels and bridges; both are [] when it did not answer."""

    at: int
    engine: str
    channels: list[str]
    bridges: list[str]


@dataclass(slots=True)
class Evidence:
    """All of one run.

    `settings`: {"dispatch_deadline_s": 30, "limits": {app: {"calls_at_once": n, "calls_per_second": n}},
    "credit_yuan": {app: "12.5"}}; an app without limits is not in `limits`. `phones` has the journal of each
    carrier by its name. `recordings`: the folder of finished recordings. `heard`: the folder of what each
    carrier's phones recorded, by its name; {} when nobody kept that. `allowed_late_ms`: what bounds are
    widened by.
    """

    database_url: str
    settings: dict[str, Any]
    recordings: Path
    asked: list[Asked] = field(default_factory=list)
    arrived: list[Arrived] = field(default_factory=list)
    phones: dict[str, list[PhoneEvent]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    allowed_late_ms: int = 0
    heard: dict[str, Path] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it as JSON. The database, the recordings and what phones heard stay where they are."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        path.write_text(json.dumps(plain, default=_plain, ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Evidence:
        """What `save` wrote."""
        plain = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            **plain
            | {
                "recordings": Path(plain["recordings"]),
                "asked": [
                    Asked(**one | {"answers": [Answer(**answer) for answer in one["answers"]]})
                    for one in plain["asked"]
                ],
                "arrived": [Arrived(**one) for one in plain["arrived"]],
                "phones": {name: [_phone_event(one) for one in log] for name, log in plain["phones"].items()},
                "faults": [Fault(**one) for one in plain["faults"]],
                "held": [Held(**one) for one in plain["held"]],
                "heard": {name: Path(folder) for name, folder in plain.get("heard", {}).items()},
            }
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return asdict(value)


def _phone_event(plain: dict[str, Any]) -> PhoneEvent:
    return PhoneEvent(
        **plain | {"at": datetime.fromisoformat(plain["at"]), "event": PhoneMoment(plain["event"])}
    )
