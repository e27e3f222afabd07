"""Marks that every change of the catalogue renews, whoever makes it: until then what is in memory is good.

Drawn by chance, not counted: a mark that was rolled back never comes again with something else behind it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Which mark stands for which table.
_MARKS = {"apps": "apps", "numbers": "apps", "app_numbers": "apps", "trunks": "trunks", "rates": "rates"}


def upgrade() -> None:
    op.create_table(
        "catalog_marks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("apps", sa.String(36), nullable=False),
        sa.Column("trunks", sa.String(36), nullable=False),
        sa.Column("rates", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_catalog_marks"),
    )
    op.execute("INSERT INTO catalog_marks (id, apps, trunks, rates) VALUES (1, '', '', '')")
    renew = _renew_by_row if op.get_bind().dialect.name == "sqlite" else _renew_by_statement
    for table, mark in _MARKS.items():
        renew(table, mark)


def _renew_by_row(table: str, mark: str) -> None:
    for event in ("INSERT", "UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_mark_{event.lower()} AFTER {event} ON {table} "
            f"BEGIN UPDATE catalog_marks SET {mark} = lower(hex(randomblob(16))); END"
        )


def _renew_by_statement(table: str, mark: str) -> None:
    op.execute(
        f"CREATE FUNCTION {table}_mark() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN UPDATE catalog_marks SET {mark} = gen_random_uuid(); RETURN NULL; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_mark AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_mark()"
    )
