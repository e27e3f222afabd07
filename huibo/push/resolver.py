"""Names to addresses for the push client, on threads of its own.

A name server that hangs holds up neither the threads that the database works on nor the end of the program.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult


class ThreadResolver(AbstractResolver):
    """The system's own resolver; one look-up at a time for each name is the connector's care."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of `host`. Raises `OSError`."""
        future: Future[list[Any]] = Future()
        look_up = threading.Thread(target=_look_up, args=(future, host, port, family), daemon=True)
        look_up.start()
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=found,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, _, protocol, _, address in await asyncio.wrap_future(future)
        ]

    async def close(self) -> None:
        """Look-ups under way end by themselves and are not waited for."""


def _look_up(future: Future[list[Any]], host: str, port: int, family: int) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(
            socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        )
    except UnicodeError:  # a label of more than 63 characters, or none
        future.set_exception(socket.gaierror(socket.EAI_NONAME, "not a host name"))
    except Exception as error:
        future.set_exception(error)
