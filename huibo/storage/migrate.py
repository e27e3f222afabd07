"""Brings a database to this version's schema. Safe to run on every start; never loses data."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine


def config_for(connection: object) -> Config:
    """An Alembic configuration that works on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(engine: Engine) -> None:
    """Apply all migrations that are missing, in one transaction."""
    with engine.begin() as connection:
        command.upgrade(config_for(connection), "head")
