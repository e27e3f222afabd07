"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "apps",
        sa.Column("app_id", sa.String(length=64), nullable=False),
        sa.Column("url_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("allowed_ips", sa.JSON(), nullable=False),
        sa.Column("status_url", sa.Text(), nullable=True),
        sa.Column("cdr_url", sa.Text(), nullable=True),
        sa.Column("record_url", sa.Text(), nullable=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("app_id", name=op.f("pk_apps")),
    )
    op.create_table(
        "calls",
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("app_id", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("caller", sa.String(length=20), nullable=False),
        sa.Column("callee", sa.String(length=20), nullable=False),
        sa.Column("caller_display", sa.String(length=20), nullable=False),
        sa.Column("callee_display", sa.String(length=20), nullable=False),
        sa.Column("trunk", sa.String(length=40), nullable=False),
        sa.Column("max_talk_s", sa.Integer(), nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("status_mask", sa.Integer(), nullable=False),
        sa.Column("status_url", sa.Text(), nullable=True),
        sa.Column("cdr_url", sa.Text(), nullable=True),
        sa.Column("record_url", sa.Text(), nullable=True),
        sa.Column("key_url", sa.Text(), nullable=True),
        sa.Column("biz_id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("record", sa.Boolean(), nullable=False),
        sa.Column("recognise_ringing", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_calls")),
    )
    op.create_index("ix_calls_app_accepted", "calls", ["app_id", "accepted_at"], unique=False)
    op.create_index(
        "ix_calls_unfinished",
        "calls",
        ["accepted_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "idempotency",
        sa.Column("app_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("app_id", "key", name=op.f("pk_idempotency")),
    )
    op.create_index("ix_idempotency_created", "idempotency", ["created_at"], unique=False)
    op.create_table(
        "numbers",
        sa.Column("number", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_numbers")),
    )
    op.create_table(
        "pushes",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("app_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pushes")),
    )
    op.create_index("ix_pushes_call", "pushes", ["call_id", "seq"], unique=True)
    op.create_index("ix_pushes_due", "pushes", ["state", "receiver", "next_at"], unique=False)
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "trunks",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("codecs", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=True),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_trunks")),
    )
    op.create_table(
        "app_numbers",
        sa.Column("app_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(
            ["app_id"], ["apps.app_id"], name=op.f("fk_app_numbers_app_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["number"], ["numbers.number"], name=op.f("fk_app_numbers_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("app_id", "number", name=op.f("pk_app_numbers")),
    )
    op.create_table(
        "cdrs",
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("app_id", sa.String(length=64), nullable=False),
        sa.Column("caller", sa.String(length=20), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("caller_invited_at", sa.BigInteger(), nullable=True),
        sa.Column("caller_ringing_at", sa.BigInteger(), nullable=True),
        sa.Column("caller_answered_at", sa.BigInteger(), nullable=True),
        sa.Column("caller_ended_at", sa.BigInteger(), nullable=True),
        sa.Column("caller_reason", sa.String(length=20), nullable=True),
        sa.Column("caller_sip_code", sa.Integer(), nullable=True),
        sa.Column("callee_invited_at", sa.BigInteger(), nullable=True),
        sa.Column("callee_ringing_at", sa.BigInteger(), nullable=True),
        sa.Column("callee_answered_at", sa.BigInteger(), nullable=True),
        sa.Column("callee_ended_at", sa.BigInteger(), nullable=True),
        sa.Column("callee_reason", sa.String(length=20), nullable=True),
        sa.Column("callee_sip_code", sa.Integer(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.String(length=20), nullable=False),
        sa.Column("talk_s", sa.Integer(), nullable=False),
        sa.Column("billed_s", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.call_id"], name=op.f("fk_cdrs_call_id")),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_cdrs")),
    )
    op.create_index("ix_cdrs_app_caller_started", "cdrs", ["app_id", "caller", "started_at"], unique=False)
    op.create_index("ix_cdrs_app_started", "cdrs", ["app_id", "started_at"], unique=False)
    op.create_table(
        "recordings",
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("app_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("talk_ms", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("format", sa.String(length=8), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["call_id"], ["calls.call_id"], name=op.f("fk_recordings_call_id")),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_recordings")),
    )
    op.create_index("ix_recordings_due", "recordings", ["state", "next_at"], unique=False)
    op.create_index("ix_recordings_expiry", "recordings", ["state", "expires_at"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("there is nothing before the first schema")
