"""What admission decides upon: a request and all that must be known of the world, read in one transaction.

Plain data. Checks are functions of it, so that none of them does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from huibo.model import App, CallRequest, Trunk


@dataclass(frozen=True, slots=True)
class Facts:
    """`pool`: the app's display numbers. `trunks`: all trunks, the one to be tried first in front."""

    request: CallRequest
    app: App | None
    pool: tuple[str, ...]
    trunks: tuple[Trunk, ...]
    engine_ready: bool
    last_trunk: str | None = None  # the line to be avoided if there is another
