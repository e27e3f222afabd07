"""Beginnings of numbers as operators enter them: checked, and written in the one form that is compared."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from huibo.numbers import pattern

_LONGEST = 15  # digits of E.164


def prefix(text: str) -> str:
    """The beginning of numbers as it is compared; "" is that of all. Raises ValueError."""
    found = pattern(text)
    if found is None:
        raise ValueError("not the beginning of a number: digits, like 138, 010 or +86")
    if len(found) > _LONGEST:
        raise ValueError(f"longer than any number: {_LONGEST} digits at most")
    return found


def some(text: str) -> str:
    """A number or the beginning of some, as it is compared. Raises ValueError."""
    if found := prefix(text):
        return found
    raise ValueError("no number: one, or the beginning of some, is like 13800138000 or 0108888")


_Text = Annotated[str, Field(max_length=40, examples=["+86138"])]
Prefix = Annotated[_Text, AfterValidator(prefix)]
Pattern = Annotated[_Text, AfterValidator(some)]
