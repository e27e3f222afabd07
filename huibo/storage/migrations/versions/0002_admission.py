"""Money, limits, blacklist, locks, routes with failover, tokens and the audit log.

Only adds, renames and drops columns: to copy a table anew would, on SQLite, delete what refers to its rows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_LIVE = sa.text("ended_at IS NULL")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _change_tables()
    _make_money()
    _make_rules()
    _make_access()
    for table in ("ledger", "audit"):
        _write_once(table)


def _change_tables() -> None:
    op.add_column("apps", sa.Column("state", sa.String(10), nullable=False, server_default="active"))
    op.add_column("numbers", sa.Column("area", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column(
        "numbers", sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.text("true"))
    )
    op.add_column("numbers", sa.Column("trunks", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("trunks", sa.Column("state", sa.String(10), nullable=False, server_default="active"))
    op.add_column("trunks", sa.Column("settings", sa.JSON(), nullable=False, server_default="{}"))
    op.execute("UPDATE trunks SET state = 'off' WHERE NOT enabled")
    op.drop_column("trunks", "enabled")
    op.alter_column("calls", "trunk", new_column_name="caller_trunk")
    op.add_column(
        "calls", sa.Column("callee_trunk", sa.String(40), nullable=False, server_default=sa.text("''"))
    )
    op.execute("UPDATE calls SET callee_trunk = caller_trunk")
    op.create_index("ix_calls_callee_accepted", "calls", ["callee", "accepted_at"])
    op.create_index("ix_calls_caller_accepted", "calls", ["caller", "accepted_at"])
    op.create_index("ix_calls_accepted", "calls", ["accepted_at"])
    for column in ("biz_id", "order_id"):
        given = sa.text(f"{column} <> ''")
        op.create_index(f"ix_calls_{column}", "calls", [column], sqlite_where=given, postgresql_where=given)
    for name, column in (
        ("ix_calls_live_app", "app_id"),
        ("ix_calls_live_caller_trunk", "caller_trunk"),
        ("ix_calls_live_callee_trunk", "callee_trunk"),
    ):
        op.create_index(name, "calls", [column], sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.add_column("cdrs", sa.Column("charge", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("pushes", sa.Column("replayed_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_pushes_app", "pushes", ["app_id", "id"])


def _make_money() -> None:
    op.create_table(
        "accounts",
        sa.Column("app_id", sa.String(64), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("app_id", name="pk_accounts"),
    )
    op.create_table(
        "ledger",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("app_id", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("call_id", sa.String(64), nullable=True),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger"),
    )
    op.create_index("ix_ledger_app_at", "ledger", ["app_id", "at"])
    op.create_index("ix_ledger_call_kind", "ledger", ["call_id", "kind"], unique=True)
    op.create_table(
        "rates",
        sa.Column("plan", sa.String(40), nullable=False),
        sa.Column("prefix", sa.String(20), nullable=False),
        sa.Column("per_minute", sa.BigInteger(), nullable=False),
        sa.Column("first_s", sa.Integer(), nullable=False),
        sa.Column("next_s", sa.Integer(), nullable=False),
        sa.Column("setup", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("plan", "prefix", name="pk_rates"),
    )


def _make_rules() -> None:
    op.create_table(
        "blacklist",
        sa.Column("pattern", sa.String(20), nullable=False),
        sa.Column("exact", sa.Boolean(), nullable=False),
        sa.Column("app_id", sa.String(64), nullable=False),
        sa.Column("direction", sa.String(6), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pattern", "exact", "app_id", "direction", name="pk_blacklist"),
    )
    op.create_table(
        "locks",
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "subject", name="pk_locks"),
    )


def _make_access() -> None:
    op.create_table(
        "push_secrets",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("app_id", sa.String(64), nullable=False),
        sa.Column("secret", sa.String(100), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["app_id"], ["apps.app_id"], name="fk_push_secrets_app_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_push_secrets"),
    )
    op.create_index("ix_push_secrets_app_id", "push_secrets", ["app_id"])
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(10), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_tokens"),
    )
    op.create_table(
        "audit",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_subject", "audit", ["kind", "subject"])


def _write_once(table: str) -> None:
    """Have the database refuse to change or delete rows, whoever asks."""
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is written once'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_write_once() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is written once'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_write_once BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_write_once()"
    )
