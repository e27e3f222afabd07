"""Several processes on one database: who carries a call, who attempts a push."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_LIVE = sa.text("ended_at IS NULL")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("calls", sa.Column("cell", sa.String(64), nullable=False, server_default=sa.text("'main'")))
    op.create_index("ix_calls_live_cell", "calls", ["cell"], sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.add_column("pushes", sa.Column("leased_until", sa.BigInteger(), nullable=True))
    op.add_column("pushes", sa.Column("leased_by", sa.String(64), nullable=True))
    leased = sa.text("leased_by IS NOT NULL")
    op.create_index("ix_pushes_leased", "pushes", ["leased_by"], sqlite_where=leased, postgresql_where=leased)
    op.create_table(
        "cells",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("version", sa.String(20), nullable=False),
        sa.Column("engine_ready", sa.Boolean(), nullable=False),
        sa.Column("live_calls", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cells"),
    )
    op.create_table(
        "wishes",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("cell", sa.String(64), nullable=False),
        sa.Column("call_id", sa.String(64), nullable=False),
        sa.Column("unless", sa.String(20), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.String(10), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_wishes"),
    )
    op.create_index("ix_wishes_cell", "wishes", ["cell"])
    op.create_table(
        "trunk_turns",
        sa.Column("trunk", sa.String(40), nullable=False),
        sa.Column("slots", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("trunk", name="pk_trunk_turns"),
    )
