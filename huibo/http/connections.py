"""How many connections there are, in all and from each address, and which of them gives way when it is full.

Counts and chooses; speaks to no client. What it keeps is bounded by the connections that it lets in.
"""

from __future__ import annotations

import resource
from collections import Counter, OrderedDict
from typing import Protocol

import structlog

from huibo.config import Http
from huibo.http.origin import Proxies, origin

log = structlog.get_logger()

_OTHER_FILES = 512  # pushes, recordings, the database, the engine


class Guest(Protocol):
    """A connection."""

    def make_way(self) -> None:
        """End at once: nothing is being done for this client."""


class Connections:
    """All connections of a server. Guests that wait for nothing from us may have to give way."""

    def __init__(self, limits: Http) -> None:
        self.limits = limits
        self._most = limits.max_connections
        self._proxies = Proxies(limits.trusted_proxies)
        self._origins: dict[Guest, str] = {}
        self._by_origin: Counter[str] = Counter()
        self._idle: OrderedDict[Guest, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._origins)

    def admit(self, guest: Guest, host: str) -> bool:
        """Let a connection in, if need be in place of the one that has been idle longest."""
        whose = "" if host in self._proxies else origin(host)  # behind a proxy there are many
        if whose and self._by_origin[whose] >= self.limits.max_connections_per_address:
            return False
        if len(self._origins) >= self._most:
            if not self._idle:
                return False
            oldest = next(iter(self._idle))
            self.leave(oldest)
            oldest.make_way()
        self._origins[guest] = whose
        self._by_origin[whose] += 1
        return True

    def idle(self, guest: Guest) -> None:
        """From now on this one may have to give way."""
        if guest in self._origins:
            self._idle[guest] = None

    def busy(self, guest: Guest) -> None:
        self._idle.pop(guest, None)

    def leave(self, guest: Guest) -> None:
        """It is gone, or never came in."""
        self._idle.pop(guest, None)
        whose = self._origins.pop(guest, None)
        if whose is None:
            return
        self._by_origin[whose] -= 1
        if not self._by_origin[whose]:
            del self._by_origin[whose]

    def reserve_files(self) -> None:
        """Have the system grant as many open files as it takes, or be content with fewer connections."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.limits.max_connections + _OTHER_FILES
        granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and granted > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
        if granted < wanted:
            self._most = max(granted - _OTHER_FILES, granted // 2)
            log.warning("too few open files", limit=hard, needed=wanted, connections=self._most)
