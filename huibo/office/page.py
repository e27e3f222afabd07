"""Lists in pages: a cursor says where the next one begins. It is opaque to whoever gets it."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, Field

from huibo.office.errors import Invalid

T = TypeVar("T")
DEFAULT_LIMIT, MAX_LIMIT = 50, 500
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]


class Page(BaseModel, Generic[T]):
    """Some items, and where the next ones begin; `next` null: these are the last."""

    items: list[T]
    next: str | None = None


def cursor(*key: str | int) -> str:
    """A cursor behind the item with this key."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def key_of(text: str | None, *kinds: type) -> tuple[str | int, ...] | None:
    """The key in a cursor, its parts of these kinds; None for no cursor. Raises `Invalid`."""
    if text is None:
        return None
    try:
        padded = text + "=" * (-len(text) % 4)
        key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise Invalid("cursor", "not one of ours") from None
    if not isinstance(key, list) or list(map(type, key)) != list(kinds):
        raise Invalid("cursor", "not one of ours")
    if any(isinstance(part, int) and abs(part) >= 2**63 for part in key):
        raise Invalid("cursor", "not one of ours")
    return tuple(key)
