"""A blacklist from a CSV file, of any length: taken in parts, so that calls go on being admitted meanwhile.

What is wrong with a line is said with its number, and how many were taken is said in any case.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from sqlalchemy import Connection

from huibo.model import AppSettings
from huibo.office.author import Author
from huibo.office.blacklist import Kind
from huibo.office.errors import Invalid
from huibo.office.patterns import some
from huibo.storage import catalog
from huibo.storage.blacklist import Direction, Listed, put_listed

COLUMNS = ("number", "kind", "direction", "app", "expires", "reason")
_PART = 20_000  # rows a transaction: a fraction of a second in which nothing else is written
_PROBLEMS = 20  # how many are told in full
_REASON_CHARS = 200
_ZONE = ZoneInfo(AppSettings().timezone)

Transact = Callable[[Callable[[Connection], None]], None]


@dataclass(slots=True)
class Import:
    """How far an import is: rows that were written and stay, rows that were not, the first of these."""

    taken: int = 0
    refused: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)  # line, what is wrong with it

    def refuse(self, line: int, problem: str) -> None:
        self.refused += 1
        if len(self.problems) < _PROBLEMS:
            self.problems.append((line, problem))


class Part(BaseModel):
    """What the audit log says of a part of a file: so many rows up to that line."""

    rows: int
    to_line: int


def import_csv(lines: Iterable[str], file: str, by: Author, transact: Transact, done: Import) -> None:
    """Add the entries of a file to the blacklist, or replace those of the same number.

    `transact` carries out a unit of work in a transaction of its own. `done` is kept up to date, for whoever
    is interrupted. Raises `Invalid`, and takes nothing, when the first line does not name the columns.
    """
    rows = _Rows(lines, done)
    transact(rows.learn)
    part: list[Listed] = []

    def write(connection: Connection) -> None:
        put_listed(connection, part, by.at)
        by.note(connection, "import", "blacklist", file, after=Part(rows=len(part), to_line=rows.line))

    def take() -> None:
        transact(write)
        done.taken += len(part)
        part.clear()

    for entry in rows:
        part.append(entry)
        if len(part) == _PART:
            take()
    if part:
        take()


class _Rows:
    """The good rows of a file; the others are noted in `done`."""

    def __init__(self, lines: Iterable[str], done: Import) -> None:
        self._reader = csv.reader(lines)
        self._done = done
        self._apps = {""}
        names = [head.strip().lower() for head in next(self._reader, [])]
        if "number" not in names or not set(names) <= set(COLUMNS) or len(set(names)) < len(names):
            rest = ", ".join(COLUMNS[1:])
            raise Invalid("line 1", f"it must name the columns: number, and as you like {rest}; with commas")
        self._number_at = names.index("number")
        # what the file has no column for is the empty cell that is put behind each row
        self._tail = itemgetter(*(names.index(name) if name in names else -1 for name in COLUMNS[1:]))
        self._width = len(names)

    def learn(self, connection: Connection) -> None:
        """Which apps there are."""
        self._apps |= {app.app_id for app in catalog.list_apps(connection)}

    @property
    def line(self) -> int:
        """The line that was read last."""
        return self._reader.line_num

    def __iter__(self) -> Iterator[Listed]:
        while True:
            try:
                cells = next(self._reader)
                if cells:  # else an empty line
                    yield self._entry(cells)
            except StopIteration:
                return
            except (ValueError, csv.Error) as error:
                self._done.refuse(self.line, str(error))

    def _entry(self, cells: list[str]) -> Listed:
        if len(cells) > self._width:
            raise ValueError(f"{len(cells)} cells for {self._width} columns")
        cells += [""] * (self._width + 1 - len(cells))
        exact, direction, app, expires_at, reason = _tail(*self._tail(cells))
        if app not in self._apps:
            raise ValueError(f"app: there is no app {app!r}")
        return Listed(some(cells[self._number_at]), exact, app, direction, expires_at, reason)


@lru_cache(maxsize=4096)  # most rows differ in nothing but the number
def _tail(
    kind: str, direction: str, app: str, expires: str, reason: str
) -> tuple[bool, Direction, str, int | None, str]:
    """All of a row but its number. Raises ValueError."""
    kind, direction, app, reason = kind.strip(), direction.strip(), app.strip(), reason.strip()
    if kind not in ("", *Kind):
        raise ValueError(f"kind: {kind!r} is not exact or prefix")
    if direction not in ("", *Direction):
        raise ValueError(f"direction: {direction!r} is not caller, callee or both")
    if len(reason) > _REASON_CHARS or not reason.isprintable() or "\ufffd" in reason:
        raise ValueError(f"reason: not a text of at most {_REASON_CHARS} characters in UTF-8")
    return kind != Kind.PREFIX, Direction(direction or "both"), app, expiry(expires.strip()), reason


def expiry(text: str) -> int | None:
    """The end of a day (2026-12-31) or a moment (2026-12-31T18:00) as UNIX ms; "" is never.

    Without a zone of its own it is China's. Raises ValueError.
    """
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        if len(text) <= len("2026-12-31"):
            at += timedelta(days=1)
        until = int((at if at.tzinfo else at.replace(tzinfo=_ZONE)).timestamp() * 1000)
        if until <= 0:
            raise ValueError
        return until
    except (ValueError, OverflowError):
        raise ValueError(f"expires: {text!r} is not a date like 2026-12-31 or 2026-12-31T18:00") from None
