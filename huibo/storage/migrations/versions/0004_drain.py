"""A cell may be told to take no more calls."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "cells", sa.Column("draining", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
