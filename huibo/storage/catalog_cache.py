"""The catalogue in memory: apps with their numbers, trunks and rates, read and parsed once until they change.

Never gives what is stale: every transaction asks the database for the marks that each change renews, whoever
makes it. Bounded: what is not in use is read again when it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Connection, select

from huibo.model import App, DisplayNumber, Trunk
from huibo.rating import Rate
from huibo.storage.catalog import find_app, list_trunks, numbers_of
from huibo.storage.prepared import Prepared
from huibo.storage.rates import find_rates, list_rates, longest_prefix
from huibo.storage.tables import catalog_marks

T = TypeVar("T")

_MOST_ROWS = 50_000  # of one kind
_MOST_RATES = 5_000  # of one plan; the rates of a larger one are asked for number by number

_marks = Prepared(select(catalog_marks.c.apps, catalog_marks.c.trunks, catalog_marks.c.rates))


@dataclass(frozen=True, slots=True)
class Customer:
    """An app, None: there is none, and the display numbers in use that it may show, in their order."""

    app: App | None
    pool: Mapping[str, DisplayNumber]


class _Edition(Generic[T]):
    """What was read while one mark stood. A transaction that sees an older mark has an edition of its own."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self._found: dict[str, T] = {}
        self._rows = 0

    def get(self, key: str, read: Callable[[], tuple[T, int]]) -> T:
        """`read`: gives what there is, and from how many rows; nothing is kept of none."""
        try:
            return self._found[key]
        except KeyError:
            found, rows = read()
        if rows:
            if self._rows + rows > _MOST_ROWS:
                self._found, self._rows = {}, 0
            self._found[key] = found
            self._rows += rows
        return found


class Catalog:
    """The catalogue as one transaction sees it."""

    def __init__(
        self,
        connection: Connection,
        customers: _Edition[Customer],
        trunks: _Edition[tuple[Trunk, ...]],
        plans: _Edition[Mapping[str, Rate] | None],
    ) -> None:
        self._connection = connection
        self._customers = customers
        self._trunks = trunks
        self._plans = plans

    def customer(self, app_id: str) -> Customer:
        def read() -> tuple[Customer, int]:
            app = find_app(self._connection, app_id)
            if app is None:  # anybody may ask for one that is not there: that fills no memory
                return Customer(None, {}), 0
            pool = {one.number: one for one in numbers_of(self._connection, app_id)}
            return Customer(app, pool), 1 + len(pool)

        return self._customers.get(app_id, read)

    def trunks(self) -> tuple[Trunk, ...]:
        """All trunks, the one to be tried first in front."""

        def read() -> tuple[tuple[Trunk, ...], int]:
            found = tuple(list_trunks(self._connection))
            return found, len(found)

        return self._trunks.get("", read)

    def rates(self, plan: str, *e164: str) -> list[Rate | None]:
        """For each number the rate of the longest prefix that it begins with; None: there is none."""

        def read() -> tuple[Mapping[str, Rate] | None, int]:
            found = list_rates(self._connection, plan, limit=_MOST_RATES + 1)
            if len(found) > _MOST_RATES:
                return None, 1
            return {rate.prefix: rate for _, rate, _ in found}, 1 + len(found)

        rates = self._plans.get(plan, read)
        if rates is None:
            return find_rates(self._connection, plan, *e164)
        return [longest_prefix(rates, one) for one in e164]


class CatalogCache:
    """One for all transactions of a process, on whatever threads they run."""

    def __init__(self) -> None:
        self._customers: _Edition[Customer] = _Edition("")
        self._trunks: _Edition[tuple[Trunk, ...]] = _Edition("")
        self._plans: _Edition[Mapping[str, Rate] | None] = _Edition("")

    def at(self, connection: Connection) -> Catalog:
        """The catalogue of the transaction of a connection.

        Marks first, rows after them: between two statements of PostgreSQL others may commit, so rows may be
        newer than the mark they are kept under, and never older.
        """
        marks = _marks.first(connection, {})
        if marks is None:
            raise LookupError("the table catalog_marks is empty: changes of the catalogue would go unnoticed")
        apps, trunks, rates = marks
        customers, all_trunks, plans = self._customers, self._trunks, self._plans
        if customers.mark != apps:
            customers = self._customers = _Edition(apps)
        if all_trunks.mark != trunks:
            all_trunks = self._trunks = _Edition(trunks)
        if plans.mark != rates:
            plans = self._plans = _Edition(rates)
        return Catalog(connection, customers, all_trunks, plans)
