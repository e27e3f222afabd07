"""What the harness can pull inside a control plane that runs: its clock, and the order of its events.

A file of JSON that the harness writes and the control plane looks at. Knows neither of them.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Pulled:
    """How they stand. `clock_ms`: how far the wall clock is off. `shake`: events come twice or late."""

    clock_ms: int = 0
    shake: bool = False


class Levers:
    """The file, from either side."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._pulled = Pulled()
        self._looked_at = float("-inf")

    def pull(self, pulled: Pulled) -> None:
        """Set them; the control plane follows within a tenth of a second."""
        partial = self._file.with_suffix(".new")
        partial.write_text(json.dumps(asdict(pulled)))
        partial.replace(self._file)

    @property
    def now(self) -> Pulled:
        """How they stand; not there: as if nobody had touched them."""
        if time.monotonic() - self._looked_at > _LOOK_S:
            self._looked_at = time.monotonic()
            try:
                self._pulled = Pulled(**json.loads(self._file.read_text()))
            except FileNotFoundError:
                self._pulled = Pulled()
        return self._pulled
