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
    Column("state", String(10), nullable=False, server_default="active"),  # AppState
    Column("created_at", BigInteger, nullable=False),
)

numbers = Table(
    "numbers",
    metadata,
    Column("number", String(20), primary_key=True),  # as it is displayed: national digits
    Column("area", Text, nullable=False, server_default=text("''")),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("trunks", JSON, nullable=False, server_default="[]"),  # names; none: all
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
    Column("state", String(10), nullable=False, server_default="active"),  # TrunkState
    Column("settings", JSON, nullable=False, server_default="{}"),  # what else differs from Trunk's defaults
    Column("created_at", BigInteger, nullable=False),
)

catalog_marks = Table(
    "catalog_marks",  # one row; triggers renew a mark with every change of its tables
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("apps", String(36), nullable=False),  # apps, numbers, and which app may show which
    Column("trunks", String(36), nullable=False),
    Column("rates", String(36), nullable=False),
)


def _live_index(name: str, column: str) -> Index:
    """An index over the calls that have no end yet: it stays small."""
    live = text("ended_at IS NULL")
    return Index(name, column, sqlite_where=live, postgresql_where=live)


def _given_index(name: str, column: str) -> Index:
    """An index over the calls that have such a name from their customer."""
    given = text(f"{column} <> ''")
    return Index(name, column, sqlite_where=given, postgresql_where=given)


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
    Column("caller_trunk", String(40), nullable=False),  # where each leg is, was last, or will be tried first
    Column("callee_trunk", String(40), nullable=False, server_default=text("''")),
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
    Column("cell", String(64), nullable=False, server_default=text("'main'")),  # who carries it
    Index("ix_calls_app_accepted", "app_id", "accepted_at"),
    Index("ix_calls_callee_accepted", "callee", "accepted_at"),
    Index("ix_calls_caller_accepted", "caller", "accepted_at"),
    Index("ix_calls_accepted", "accepted_at"),
    _given_index("ix_calls_biz_id", "biz_id"),
    _given_index("ix_calls_order_id", "order_id"),
    _live_index("ix_calls_unfinished", "accepted_at"),
    _live_index("ix_calls_live_app", "app_id"),
    _live_index("ix_calls_live_cell", "cell"),
    _live_index("ix_calls_live_caller_trunk", "caller_trunk"),
    _live_index("ix_calls_live_callee_trunk", "callee_trunk"),
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
    Column("charge", BigInteger, nullable=False, server_default="0"),  # 1/1000 fen
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
    Column("reason", Text),  # why it failed, or what it lacks
    Column("key", Text),  # where the store has it
    Column("format", String(8)),
    Column("bytes", BigInteger),
    Column("sha256", String(64)),
    Column("duration_ms", Integer),
    Index("ix_recordings_due", "state", "next_at"),
    Index("ix_recordings_expiry", "state", "expires_at"),
)

cells = Table(
    "cells",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("base_url", Text, nullable=False),
    Column("version", String(20), nullable=False),
    Column("engine_ready", Boolean, nullable=False),
    Column("live_calls", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),  # by the database's clock: those of machines differ
    Column("draining", Boolean, nullable=False, server_default=text("false")),  # it is to take no more calls
)

wishes = Table(
    "wishes",  # what one cell is asked to do by another
    metadata,
    Column("id", _BIG_KEY, primary_key=True, autoincrement=True),
    Column("cell", String(64), nullable=False),
    Column("call_id", String(64), nullable=False),
    Column("unless", String(20), nullable=False),  # CancelUnless
    Column("created_at", BigInteger, nullable=False),
    Column("answer", String(10)),  # ending, kept, over; NULL while nobody has looked
    Index("ix_wishes_cell", "cell"),
)

trunk_turns = Table(
    "trunk_turns",  # when INVITEs over a trunk may leave, where several cells share its limit
    metadata,
    Column("trunk", String(40), primary_key=True),
    Column("slots", JSON, nullable=False),  # UNIX ms by the database's clock, the newest last
)

accounts = Table(
    "accounts",  # outlive their app: what was paid stays paid
    metadata,
    Column("app_id", String(64), primary_key=True),
    Column("balance", BigInteger, nullable=False),  # credits less charges, 1/1000 fen
    Column("held", BigInteger, nullable=False),  # for calls under way
)

ledger = Table(
    "ledger",  # written once, never changed: the database itself refuses
    metadata,
    Column("id", _BIG_KEY, primary_key=True, autoincrement=True),
    Column("app_id", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(12), nullable=False),  # credit, adjustment, hold, release, charge
    Column("amount", BigInteger, nullable=False),  # positive; of an adjustment either way
    Column("call_id", String(64)),  # of a hold, release or charge
    Column("balance", BigInteger, nullable=False),  # after it
    Column("held", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("ix_ledger_app_at", "app_id", "at"),
    Index(
        "ix_ledger_call_kind", "call_id", "kind", unique=True
    ),  # no call is held, released or charged twice
)

rates = Table(
    "rates",
    metadata,
    Column("plan", String(40), primary_key=True),
    Column("prefix", String(20), primary_key=True),  # `numbers.pattern`; "": every number
    Column("per_minute", BigInteger, nullable=False),  # 1/1000 fen
    Column("first_s", Integer, nullable=False),
    Column("next_s", Integer, nullable=False),
    Column("setup", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

blacklist = Table(
    "blacklist",
    metadata,
    Column("pattern", String(20), primary_key=True),  # `numbers.pattern`
    Column("exact", Boolean, primary_key=True),  # else every number that begins so
    Column("app_id", String(64), primary_key=True),  # "": all apps
    Column("direction", String(6), primary_key=True),  # caller, callee, both
    Column("expires_at", BigInteger),
    Column("reason", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

locks = Table(
    "locks",  # set by the platform itself, for a time
    metadata,
    Column("kind", String(10), primary_key=True),  # address, app, trunk
    Column("subject", String(64), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
)

push_secrets = Table(
    "push_secrets",
    metadata,
    Column("id", _BIG_KEY, primary_key=True, autoincrement=True),
    Column("app_id", ForeignKey("apps.app_id", ondelete="CASCADE"), nullable=False),
    Column("secret", String(100), nullable=False),  # Standard Webhooks: whsec_…
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),  # once another has taken its place
    Index("ix_push_secrets_app_id", "app_id"),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", String(16), primary_key=True),  # the part of the token that may be shown
    Column("name", Text, nullable=False),
    Column("role", String(10), nullable=False),  # viewer, operator, admin
    Column("digest", String(64), nullable=False),  # SHA-256 of the whole token, hex
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)

audit = Table(
    "audit",  # written once, like the ledger
    metadata,
    Column("id", _BIG_KEY, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("action", String(20), nullable=False),  # add, change, remove, …
    Column("kind", String(20), nullable=False),  # app, number, trunk, …
    Column("subject", Text, nullable=False),
    Column("before", JSON),  # without secrets
    Column("after", JSON),
    Column("origin", Text, nullable=False),  # the address it came from, or "cli"
    Index("ix_audit_subject", "kind", "subject"),
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
    Column("receiver", Text, nullable=False),  # what isolation goes by: scheme://host:port, or its lane
    Column("body", LargeBinary, nullable=False),
    Column("state", String(10), nullable=False),  # pending, delivered, dead
    Column("attempts", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("leased_until", BigInteger),  # an attempt is under way
    Column("leased_by", String(64)),  # in this cell
    Column("finished_at", BigInteger),
    Column("last_error", Text),
    Column("replayed_at", BigInteger),  # when an operator had it sent once more
    Index("ix_pushes_due", "state", "receiver", "next_at"),
    Index(
        "ix_pushes_leased",
        "leased_by",
        sqlite_where=text("leased_by IS NOT NULL"),
        postgresql_where=text("leased_by IS NOT NULL"),
    ),
    Index("ix_pushes_call", "call_id", "seq", unique=True),
    Index("ix_pushes_app", "app_id", "id"),
)

push_targets = Table(
    "push_targets",  # only those that fail: one that works has no row
    metadata,
    Column("app_id", String(64), primary_key=True),
    Column("target", Text, primary_key=True),  # `push_targets.target_of`
    Column("failing_since", BigInteger, nullable=False),
    Column("failed_at", BigInteger, nullable=False),  # last, to the hour
    Column("last_error", Text, nullable=False),
    Column("disabled_at", BigInteger),
    Column("reason", Text),
)
