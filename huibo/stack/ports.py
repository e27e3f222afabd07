"""Free ports on loopback."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free(*kinds: socket.SocketKind) -> list[int]:
    """A free port of 127.0.0.1 for each kind (SOCK_STREAM, SOCK_DGRAM), all different."""
    with ExitStack() as held:
        ports = []
        for kind in kinds:
            one = held.enter_context(socket.socket(socket.AF_INET, kind))
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
        return ports
