"""Brings a database to this version's schema. Safe to run on every start; never loses data."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, func, select

_LOCK = 0x6875_6962_6F  # any number that nobody else takes


def config_for(connection: object) -> Config:
    """An Alembic configuration that works on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(engine: Engine) -> None:
    """Apply all migrations that are missing, in one transaction."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # SQLite's writers queue up anyway
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        command.upgrade(config_for(connection), "head")
