"""When a push is tried again. Pure: reads no clock and knows no receiver."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime


def wait_s(waits: Sequence[float], made: int, jitter: float, at_least_s: float = 0) -> float | None:
    """Seconds until the next attempt after `made` failed ones, None when there is none left.

    Each of `waits` varies by the share `jitter`. `at_least_s` is what the receiver asks for; it gets no more
    than the longest of the waits.
    """
    if made > len(waits):
        return None
    varied = waits[made - 1] * random.uniform(1 - jitter, 1 + jitter)
    return max(varied, min(at_least_s, max(waits)))


def retry_after_s(value: str | None, now_s: float) -> float:
    """The seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3); 0 for none or nonsense."""
    if value is None:
        return 0
    text = value.strip()
    try:
        if text.isascii() and text.isdigit():
            return float(text)
        date = parsedate_to_datetime(text)
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s)
    except (ValueError, OverflowError):
        return 0
