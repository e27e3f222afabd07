"""What an operator's request can fail with; each way in says it in its own form."""

from __future__ import annotations

from pydantic import ValidationError


class NotFound(Exception):
    """There is nothing of that kind by that name."""

    def __init__(self, kind: str, key: str) -> None:
        self.kind = kind
        self.key = key
        super().__init__(f"no {kind} {key}")


class Invalid(Exception):
    """A value that cannot be. `field`: which, in the words of the API."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


def first_of(error: ValidationError) -> Invalid:
    """The first thing that is wrong with a value that was put together here."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return Invalid(field, first["msg"].removeprefix("Value error, "))
