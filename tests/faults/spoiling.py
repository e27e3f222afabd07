"""What the checker's tests spoil a true world with: the database by SQL, the evidence in memory.

Each test has a copy of its own.
"""

from __future__ import annotations

import copy
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from huibo.model import Leg
from huibo.sandbox.journal import PhoneEvent, PhoneMoment
from tests.faults.checker import check
from tests.faults.evidence import Arrived, Asked, Evidence, Fault
from tests.faults.invariants.facts import Violation
from tests.faults.true_sound import write_heard
from tests.faults.true_world import BEGAN, HEARD, TrueWorld

A, B = Leg
_PUSH_TIMES = ("timeStamp", "endCallTime")


class Spoilt:
    """A copy of the true world, to be spoilt. Times are ms from its beginning unless said otherwise."""

    def __init__(self, world: TrueWorld, folder: Path) -> None:
        source = Path(world.evidence.database_url.removeprefix("sqlite:///")).parent
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(HEARD))
        self.file = folder / "huibo.sqlite3"
        self.ids = world.ids
        self.evidence: Evidence = copy.deepcopy(world.evidence)
        self.evidence.database_url = f"sqlite:///{self.file}"
        self.evidence.recordings = folder / "recordings"

    def heard(self, name: str, leg: Leg) -> Path:
        """The file of what a phone recorded."""
        self._own_heard()
        ((carrier, file),) = [(on, one.heard) for on, one in self.phone(name, leg) if one.heard is not None]
        return self.evidence.heard[carrier] / file

    def hear_each_other(self) -> None:
        """All phones recorded what they should have, by the times that they have now."""
        self._own_heard()
        write_heard(self.evidence)

    def _own_heard(self) -> None:
        own = self.file.with_name(HEARD)
        if not own.is_dir():
            for carrier, folder in self.evidence.heard.items():
                shutil.copytree(folder, own / carrier)
                self.evidence.heard[carrier] = own / carrier

    def found(self) -> list[Violation]:
        return check(self.evidence)

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Without the database's own guards: no foreign keys, no triggers, no unique index on the ledger."""
        with closing(sqlite3.connect(self.file)) as connection, connection:
            for event in ("update", "delete"):
                connection.execute(f"DROP TRIGGER IF EXISTS ledger_no_{event}")
            connection.execute("DROP INDEX IF EXISTS ix_ledger_call_kind")
            return connection.execute(statement, values).fetchall()

    def call(self, name: str, table: str, change: str) -> None:
        """Change the row of a call in a table."""
        self.sql(f"UPDATE {table} SET {change} WHERE call_id = ?", self.ids[name])

    def drop(self, name: str, table: str, more: str = "") -> None:
        self.sql(f"DELETE FROM {table} WHERE call_id = ? {more}", self.ids[name])

    def state(self, name: str, path: str, value: Any) -> None:
        changed = "UPDATE calls SET state = json_set(state, ?, json(?)) WHERE call_id = ?"
        self.sql(changed, path, json.dumps(value), self.ids[name])

    def reledger(self) -> None:
        """Balances and holds after each entry as its entries now have it."""
        sums: dict[str, list[int]] = {}
        rows = self.sql("SELECT id, app_id, kind, amount FROM ledger ORDER BY id")
        for row, app, kind, amount in rows:
            now = sums.setdefault(app, [0, 0])
            now[0] += {"credit": amount, "charge": -amount}.get(kind, 0)
            now[1] += {"hold": amount, "release": -amount}.get(kind, 0)
            self.sql("UPDATE ledger SET balance = ?, held = ? WHERE id = ?", *now, row)
        self.sql("DELETE FROM accounts")
        for app, now in sums.items():
            self.sql("INSERT INTO accounts VALUES (?, ?, ?)", app, *now)

    def asked(self, name: str) -> Asked:
        """The request of a call, or the one that was refused."""
        index = [*self.ids].index(name)
        return self.evidence.asked[index]

    def phone(self, name: str, leg: Leg) -> list[tuple[str, PhoneEvent]]:
        """What the phone of a leg did, with its carrier."""
        number = self.number(name, leg)
        return [
            (carrier, event)
            for carrier, log in self.evidence.phones.items()
            for event in log
            if event.number == number
        ]

    def number(self, name: str, leg: Leg) -> str:
        body = self.asked(name).body
        return body["src" if leg is A else "dst"].removeprefix("0086")

    def unsee(self, name: str, leg: Leg, *moments: PhoneMoment) -> None:
        """Phones never did this; no moments: nothing at all."""
        number = self.number(name, leg)
        for log in self.evidence.phones.values():
            log[:] = [one for one in log if one.number != number or (moments and one.event not in moments)]

    def late(self, name: str, leg: Leg, by_ms: int, *moments: PhoneMoment) -> None:
        """Phones did it so much later."""
        number = self.number(name, leg)
        for log in self.evidence.phones.values():
            for index, one in enumerate(log):
                if one.number == number and (not moments or one.event in moments):
                    log[index] = replace(one, at=one.at + timedelta(milliseconds=by_ms))

    def saw(
        self,
        name: str,
        leg: Leg,
        after_ms: int,
        *moments: PhoneMoment,
        carrier: str = "sandbox",
        call: str | None = None,
        code: int | None = None,
    ) -> None:
        """A phone did this, too, so long after its request. `call`: of another INVITE than the true one."""
        number = self.number(name, leg)
        own = call or next((event.call for _, event in self.phone(name, leg)), "another")
        for index, moment in enumerate(moments):
            at = datetime.fromtimestamp((self.asked(name).sent_at + after_ms + index) / 1000, UTC)
            refusal = code if moment is PhoneMoment.REFUSED else None
            self.evidence.phones[carrier].append(PhoneEvent(at, number, "", moment, own, code=refusal))

    def pushes(self, name: str, kind: str, **body: str) -> list[str]:
        """The webhook-ids of pushes of a call with these members in their bodies."""
        rows = self.sql(
            "SELECT seq, body FROM pushes WHERE call_id = ? AND kind = ? ORDER BY seq", self.ids[name], kind
        )
        return [f"{self.ids[name]}-{seq}" for seq, text in rows if body.items() <= json.loads(text).items()]

    def unpush(self, webhook_id: str) -> None:
        """It was never owed."""
        call_id, _, seq = webhook_id.rpartition("-")
        self.sql("DELETE FROM pushes WHERE call_id = ? AND seq = ?", call_id, seq)
        self.evidence.arrived = [one for one in self.evidence.arrived if one.webhook_id != webhook_id]

    def push_as(self, webhook_id: str, **body: str) -> None:
        """It was owed, and arrived, with other members."""
        call_id, _, seq = webhook_id.rpartition("-")
        ((text,),) = self.sql("SELECT body FROM pushes WHERE call_id = ? AND seq = ?", call_id, seq)
        changed = json.loads(text) | body
        values = (json.dumps(changed).encode(), call_id, seq)
        self.sql("UPDATE pushes SET body = ? WHERE call_id = ? AND seq = ?", *values)
        for one in self.arrived(webhook_id):
            one.body = changed

    def arrived(self, webhook_id: str) -> list[Arrived]:
        return [one for one in self.evidence.arrived if one.webhook_id == webhook_id]

    def by_wrong_clock(self, name: str, seconds: int) -> None:
        """huibo lived by a clock that was wrong by so much, all through this call."""
        by, times = seconds * 1000, ("invited_at", "ringing_at", "answered_at", "ended_at")
        self.call(name, "calls", f"accepted_at = accepted_at + {by}, ended_at = ended_at + {by}")
        legs = [f"{leg}_{time}" for leg in ("caller", "callee") for time in times]
        self.call(name, "cdrs", ", ".join(f"{column} = {column} + {by}" for column in (*legs, "ended_at")))
        ((text,),) = self.sql("SELECT state FROM calls WHERE call_id = ?", self.ids[name])
        self.state(name, "$.ended_at", json.loads(text)["ended_at"] + by)
        for kind in ("status", "cdr"):
            for webhook_id in self.pushes(name, kind):
                told = self.arrived(webhook_id)[0].body.items()
                moved = {key: str(int(value) + seconds) for key, value in told if _is_time(key, value)}
                self.push_as(webhook_id, **moved)

    def fault(self, name: str, began: int, ended: int) -> None:
        self.evidence.faults.append(Fault(name, BEGAN + began, BEGAN + ended))


@dataclass(frozen=True)
class Spoil:
    """What is done to the world, and what the checker must say of it, and nothing else."""

    invariant: str
    text: str
    do: Callable[[Spoilt], None]
    faults: tuple[tuple[str, int, int], ...] = ()  # which excuse it

    def __str__(self) -> str:
        return f"{self.invariant} {self.do.__name__}"


class Book:
    """Collects spoils: `@book("I1", "words of the violation")`, and with faults those that excuse it."""

    def __init__(self) -> None:
        self.all: list[Spoil] = []

    def __call__(
        self, invariant: str, text: str, *faults: tuple[str, int, int]
    ) -> Callable[[Callable[[Spoilt], None]], Callable[[Spoilt], None]]:
        def note(do: Callable[[Spoilt], None]) -> Callable[[Spoilt], None]:
            self.all.append(Spoil(invariant, text, do, faults))
            return do

        return note


def judge(world: Spoilt, spoil: Spoil) -> None:
    """Found under its name and no other; and, where there is an excuse, not found beside that."""
    spoil.do(world)
    found = world.found()
    assert any(spoil.text in one.text for one in found), found
    assert {one.invariant for one in found} == {spoil.invariant}, found
    for fault in spoil.faults:
        world.evidence.faults = [one for one in world.evidence.faults if not _is(one, spoil.faults)]
        world.fault(*fault)
        assert world.found() == []


def _is(fault: Fault, faults: Iterable[tuple[str, int, int]]) -> bool:
    return fault.name in {name for name, _, _ in faults}


def _is_time(key: str, value: str) -> bool:
    return (key.endswith("Time") or key in _PUSH_TIMES) and value != "0"
