"""What came of a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert (self.code, self.err) == (0, "")
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """The one line of a command that was carried out."""
        assert (self.code, self.err) == (0, "")
        assert self.out.count("\n") == 1
        return self.out.rstrip("\n")

    @property
    def complaint(self) -> str:
        """The one line that a command that could not be carried out says."""
        assert (self.code, self.out) == (1, "")
        assert self.err.startswith("huibo: ")
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("huibo: ").rstrip()


Run = Callable[..., Done]
