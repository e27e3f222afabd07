"""Statements that every call has: written in SQLAlchemy's language, compiled once, then given to the driver.

What SQLAlchemy does for each execution costs ten times what SQLite does. Nothing else is left out:
transactions, types and errors are the same as with `Connection.execute`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.engine.interfaces import DBAPIModule
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.expression import Executable, SelectBase, UpdateBase
from sqlalchemy.sql.type_api import TypeEngine

Convert = Callable[[Any], Any]

_count, _first, _all = attrgetter("rowcount"), methodcaller("fetchone"), methodcaller("fetchall")


@dataclass(frozen=True, slots=True)
class _Compiled:
    """For one kind of database. Values are taken by name where `order` is None, else in that order."""

    sql: str
    defaults: Mapping[str, Any]
    order: Sequence[str] | None
    into: Sequence[tuple[str, Convert]]  # what the driver does not take as it is
    out: Sequence[tuple[int, Convert]]  # what it does not give as we want it

    def values(self, given: Mapping[str, Any]) -> Any:
        values = {**self.defaults, **given}
        for name, convert in self.into:
            values[name] = convert(values[name])
        return values if self.order is None else [values[name] for name in self.order]

    def row(self, row: Sequence[Any]) -> tuple[Any, ...]:
        if not self.out:
            return tuple(row)
        changed = list(row)
        for place, convert in self.out:
            changed[place] = convert(changed[place])
        return tuple(changed)


class Prepared:
    """A statement whose values are `bindparam`s, or an insert whose rows have all of the given columns.

    Not for lists (`in_`): their length is known at each execution only.
    """

    def __init__(
        self, statement: Executable | Callable[[Dialect], Executable], columns: Sequence[str] | None = None
    ) -> None:
        """`statement`: or what makes it, when databases say it differently. `columns`: of an insert."""
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Carry it out. Returns how many rows it was about."""
        compiled = self._for(connection)
        return int(_execute(connection, compiled.sql, compiled.values(values), _count))

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Carry it out for each of the rows."""
        if len(rows) == 1:  # PostgreSQL's driver makes much more of a list
            self.run(connection, rows[0])
        elif rows:
            compiled = self._for(connection)
            _execute(connection, compiled.sql, [compiled.values(row) for row in rows], _count, many=True)

    def first(self, connection: Connection, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The first row of what it finds."""
        compiled = self._for(connection)
        row = _execute(connection, compiled.sql, compiled.values(values), _first)
        return None if row is None else compiled.row(row)

    def all(self, connection: Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows that it finds."""
        compiled = self._for(connection)
        rows = _execute(connection, compiled.sql, compiled.values(values), _all)
        return [compiled.row(row) for row in rows]

    def _for(self, connection: Connection) -> _Compiled:
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = self._compile(dialect)
        return compiled

    def _compile(self, dialect: Dialect) -> _Compiled:
        made = self._statement
        statement: Any = made if isinstance(made, Executable) else made(dialect)
        assert isinstance(statement, SelectBase | UpdateBase)
        compiled: Any = statement.compile(dialect=dialect, column_keys=self._columns)
        assert not compiled.post_compile_params, "a list in it"
        into = []
        for name, bind in compiled.binds.items():
            convert = _dialect_type(bind.type, dialect).bind_processor(dialect)
            if convert is not None:
                into.append((name, convert))
        found = statement.selected_columns if isinstance(statement, SelectBase) else ()
        out = []
        for place, column in enumerate(found):
            convert = _dialect_type(column.type, dialect).result_processor(dialect, None)
            if convert is not None:
                out.append((place, convert))
        defaults = {name: value for name, value in compiled.params.items() if value is not None}
        order = tuple(compiled.positiontup) if compiled.positional else None
        return _Compiled(str(compiled), defaults, order, into, out)


def _dialect_type(of: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return of.dialect_impl(dialect)


def run_plain(connection: Connection, sql: str) -> None:
    """Carry out what has neither values nor a result, in the driver's own words. Begins no transaction."""
    _carry_out(connection, sql, (), _count)


def _execute(
    connection: Connection, sql: str, values: Any, give: Callable[[Any], Any], many: bool = False
) -> Any:
    if not connection.in_transaction():
        connection.begin()  # as Connection.execute does
    return _carry_out(connection, sql, values, give, many)


def _carry_out(
    connection: Connection, sql: str, values: Any, give: Callable[[Any], Any], many: bool = False
) -> Any:
    """`give`: what is wanted of the cursor. SQLite looks for rows, and may fail, as they are taken."""
    try:
        cursor = connection.connection.cursor()
        try:
            if many:
                cursor.executemany(sql, values)
            else:
                cursor.execute(sql, values)
            return give(cursor)
        finally:
            cursor.close()
    except connection.dialect.loaded_dbapi.Error as error:
        raise _as_sqlalchemy(connection, sql, error) from error


def _as_sqlalchemy(connection: Connection, sql: str, error: DBAPIModule.Error) -> BaseException:
    """The error as SQLAlchemy would raise it; a connection that is gone does not go back into the pool."""
    dialect = connection.dialect
    gone = dialect.is_disconnect(error, connection.connection.dbapi_connection, None)
    forget_details(error)
    kind = dialect.loaded_dbapi.Error
    raised = DBAPIError.instance(
        sql, None, error, kind, hide_parameters=True, connection_invalidated=gone, dialect=dialect
    )
    if gone:
        connection.invalidate(error)
    return raised


def forget_details(error: BaseException) -> None:
    """PostgreSQL tells in the lines after the first what was in the row: numbers do not belong in a log."""
    if error.args:
        error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])
