"""Who changes something in the office, and the log of what was changed.

Every change that an operator makes, by whatever way, is noted here in the same transaction. No secret ever
comes here: what is noted is what may be shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, insert

from huibo.storage.tables import audit


@dataclass(frozen=True, slots=True)
class Author:
    """Who, from where ("cli" or an address), and when (UNIX ms)."""

    name: str
    origin: str
    at: int

    def note(
        self,
        connection: Connection,
        action: str,
        kind: str,
        subject: str,
        before: BaseModel | None = None,
        after: BaseModel | None = None,
    ) -> None:
        """Write down a change: `action` is add, change, remove or the like, `kind` is app, trunk, …"""
        row = {"at": self.at, "author": self.name, "origin": self.origin, "action": action, "kind": kind}
        row |= {"subject": subject, "before": _shown(before), "after": _shown(after)}
        connection.execute(insert(audit), row)


def _shown(item: BaseModel | None) -> Any:
    return None if item is None else item.model_dump(mode="json")
