"""Brings a database to this version's schema. Safe to run on every start; never loses data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATION_LOCK = 0x6875_6962_6F  # any number that nobody else takes
_FOLDER = Path(__file__).parent / "migrations"


def is_current(engine: Engine) -> bool:
    """Whether the schema is this version's; told without Alembic, which takes longer to load than to run."""
    newest = max(file.name for file in (_FOLDER / "versions").glob("[0-9]*.py"))
    try:
        with engine.execution_options(reading=True).connect() as connection:
            own = connection.scalar(text("SELECT version_num FROM alembic_version"))
    except DBAPIError:
        return False
    return str(own) == newest.partition("_")[0]


def config_for(connection: object) -> Config:
    """An Alembic configuration that works on an open connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(engine: Engine) -> None:
    """Apply all migrations that are missing, in one transaction."""
    from alembic import command

    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # SQLite's writers queue up anyway
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        command.upgrade(config_for(connection), "head")
