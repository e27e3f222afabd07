"""Bytes as a source of choices, so that one fuzzer makes texts, JSON and stories of calls alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_TEXTS = (
    "",
    "0",
    "1",
    "-1",
    "a",
    "\0",
    "号",
    "\ud800",
    "😀",
    "008613800138000",
    "0086075586013388",
    "2" * 30,
)
_NUMBERS = (0, 1, -1, 9, 44, 486, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308)
_DEEP = 3


class Source:
    """Takes from some bytes until there are none left; after that every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def below(self, bound: int) -> int:
        taken, size = 0, 1 if bound <= 256 else 4
        for byte in self._data[self._at : self._at + size]:
            taken = taken << 8 | byte
        self._at += size
        return taken % bound

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def rest(self) -> bytes:
        rest = self._data[self._at :]
        self._at = len(self._data)
        return rest

    def text(self) -> str:
        if self.below(3):
            return self.one_of(_TEXTS)
        length = self.below(40)
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken.decode("utf-8", "surrogateescape" if self.below(2) else "replace")

    def value(self, names: Sequence[str], depth: int = 0) -> Any:
        """Anything that JSON can say, with members of these names."""
        match self.below(8 if depth < _DEEP else 5):
            case 0 | 1:
                return self.text()
            case 2:
                return self.one_of(_NUMBERS)
            case 3:
                return self.one_of((None, True, False))
            case 4:
                return self.one_of(names)
            case 5:
                return [self.value(names, depth + 1) for _ in range(self.below(4))]
            case _:
                return self.members(names, depth)

    def members(self, names: Sequence[str], depth: int = 0) -> dict[str, Any]:
        return {self.one_of(names): self.value(names, depth + 1) for _ in range(self.below(12))}
