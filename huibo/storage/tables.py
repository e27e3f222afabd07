"""The tables. Times are UNIX milliseconds, JSON columns hold what is only ever read as a whole.

Owns names and types, for SQLite and PostgreSQL alike; how a database comes to have them is the migrations'.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_BIG_KEY = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself on SQLite

apps = Table(
    "apps",
    metadata,
    Column("app_id", String(64), primary_key=True),
    Column("url_id", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("allowed_ips", JSON, nullable=False),
    Column("status_url", Text),
    Column("cdr_url", Text),
    Column("record_url", Text),
    Column("settings", JSON, nullable=False),  # AppSettings: what differs from the configuration
    Column("created_at", BigInteger, nullable=False),
)

numbers = Table(
    "numbers",
    metadata,
    Column("number", String(20), primary_key=True),  # as it is displayed: national digits
    Column("created_at", BigInteger, nullable=False),
)

app_numbers = Table(
    "app_numbers",
    metadata,
    Column("app_id", ForeignKey("apps.app_id", ondelete="CASCADE"), primary_key=True),
    Column("number", ForeignKey("numbers.number", ondelete="CASCADE"), primary_key=True),
)

trunks = Table(
    "trunks",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("host", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("codecs", Text, nullable=False),
    Column("username", Text),
    Column("password", Text),
    Column("priority", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

calls = Table(
    "calls",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("app_id", String(64), nullable=False),  # no foreign key: calls outlive their app
    Column("request_id", Text, nullable=False),
    Column("caller", String(20), nullable=False),
    Column("callee", String(20), nullable=False),
    Column("caller_display", String(20), nullable=False),
    Column("callee_display", String(20), nullable=False),
    Column("trunk", String(40), nullable=False),
    Column("max_talk_s", Integer, nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
    Column("status_mask", Integer, nullable=False),
    Column("status_url", Text),
    Column("cdr_url", Text),
    Column("record_url", Text),
    Column("key_url", Text),
    Column("biz_id", Text, nullable=False),
    Column("order_id", Text, nullable=False),
    Column("record", Boolean, nullable=False),
    Column("recognise_ringing", Boolean, nullable=False),
    Column("state", Text, nullable=False),  # CallState as JSON
    Column("ended_at", BigInteger),
    Index("ix_calls_app_accepted", "app_id", "accepted_at"),
    Index(
        "ix_calls_unfinished",
        "accepted_at",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)


def _leg_columns(leg: str) -> list[Column[Any]]:
    times = ("invited_at", "ringing_at", "answered_at", "ended_at")
    return [
        *(Column(f"{leg}_{name}", BigInteger) for name in times),
        Column(f"{leg}_reason", String(20)),
        Column(f"{leg}_sip_code", Integer),
    ]


cdrs = Table(
    "cdrs",
    metadata,
    Column("call_id", ForeignKey("calls.call_id"), primary_key=True),
    Column("app_id", String(64), nullable=False),
    Column("caller", String(20), nullable=False),
    Column("started_at", BigInteger, nullable=False),  # the caller's INVITE, or the acceptance
    *_leg_columns("caller"),
    *_leg_columns("callee"),
    Column("ended_at", BigInteger, nullable=False),
    Column("result", String(20), nullable=False),
    Column("talk_s", Integer, nullable=False),
    Column("billed_s", Integer, nullable=False),
    Index("ix_cdrs_app_started", "app_id", "started_at"),
    Index("ix_cdrs_app_caller_started", "app_id", "caller", "started_at"),
)

recordings = Table(
    "recordings",
    metadata,
    Column("call_id", ForeignKey("calls.call_id"), primary_key=True),
    Column("app_id", String(64), nullable=False),
    Column("state", String(10), nullable=False),  # pending, ready, failed, purged
    Column("talk_ms", Integer, nullable=False),  # how long it must be
    Column("created_at", BigInteger, nullable=False),
    Column("next_at", BigInteger, nullable=False),  # when it is to be finished, or tried again
    Column("attempts", Integer, nullable=False),
    Column("finished_at", BigInteger),
    Column("expires_at", BigInteger),  # when it is purged
    Column("reason", Text),  # why it failed
    Column("key", Text),  # where the store has it
    Column("format", String(8)),
    Column("bytes", BigInteger),
    Column("sha256", String(64)),
    Column("duration_ms", Integer),
    Index("ix_recordings_due", "state", "next_at"),
    Index("ix_recordings_expiry", "state", "expires_at"),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("app_id", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("digest", String(64), nullable=False),  # of the body
    Column("call_id", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_idempotency_created", "created_at"),
)

pushes = Table(
    "pushes",
    metadata,
    Column("id", _BIG_KEY, primary_key=True, autoincrement=True),
    Column("call_id", String(64), nullable=False),
    Column("app_id", String(64), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("url", Text, nullable=False),
    Column("receiver", Text, nullable=False),  # scheme://host:port, what isolation goes by
    Column("body", LargeBinary, nullable=False),
    Column("state", String(10), nullable=False),  # pending, delivered, dead
    Column("attempts", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("last_error", Text),
    Index("ix_pushes_due", "state", "receiver", "next_at"),
    Index("ix_pushes_call", "call_id", "seq", unique=True),
)
