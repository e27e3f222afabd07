"""Free ports on loopback."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress


def free(*kinds: socket.SocketKind) -> list[int]:
    """A free port of 127.0.0.1 for each kind (SOCK_STREAM, SOCK_DGRAM), all different."""
    with ExitStack() as held:
        ports = []
        for kind in kinds:
            one = held.enter_context(socket.socket(socket.AF_INET, kind))
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
        return ports


def free_in_both() -> int:
    """A port of 127.0.0.1 that is free for UDP and for TCP."""
    while True:
        (port,) = free(socket.SOCK_DGRAM)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other, suppress(OSError):
            other.bind(("127.0.0.1", port))
            return port
