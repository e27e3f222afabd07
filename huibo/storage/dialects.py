"""What both databases have and SQL's standard has not: rows that may be there already, lists as one value."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, Dialect, Table, Text, any_, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that can be told what to do on a conflict."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def put(connection: Connection, table: Table, row: dict[str, Any], kept: tuple[str, ...] = ()) -> None:
    """Add a row, or change the one of that primary key, `kept` columns excepted.

    In one statement: two processes that put the same row at the same moment follow each other.
    """
    adding = insert(connection, table).values(row)
    key = [column.name for column in table.primary_key]
    changed = {name: adding.excluded[name] for name in row if name not in (*key, *kept)}
    connection.execute(adding.on_conflict_do_update(index_elements=key, set_=changed))


def one_of(dialect: Dialect, column: ColumnElement[str], given: str) -> ColumnElement[bool]:
    """That a column is one of the texts in a list, which is given as one value: it may have any length."""
    if dialect.name == "sqlite":
        texts = func.json_each(bindparam(given, type_=JSON)).table_valued("value")
        return column.in_(select(texts.c.value))
    return column == any_(bindparam(given, type_=postgresql.ARRAY(Text)))
