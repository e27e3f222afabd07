"""Money as people write it: yuan with five decimals. Pure, exact, and never a float."""

from __future__ import annotations

import re

from huibo.rating import PER_YUAN

_DECIMALS = 5
_TEXT = re.compile(r"([+-]?)([0-9]{1,9})(?:\.([0-9]+))?")


def shown(amount: int) -> str:
    """1/1000 fen as yuan: 150000 is "1.50000"."""
    whole, rest = divmod(abs(amount), PER_YUAN)
    return f"{'-' if amount < 0 else ''}{whole}.{rest:0{_DECIMALS}}"


def parse(text: str) -> int:
    """Yuan as 1/1000 fen: "1.5" is 150000. Raises ValueError, which says what was wrong."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise ValueError("not an amount in yuan, like 100 or 0.12345")
    sign, whole, decimals = found[1], found[2], found[3] or ""
    if len(decimals) > _DECIMALS:
        raise ValueError(f"an amount has at most {_DECIMALS} decimals")
    amount = int(whole) * PER_YUAN + int(decimals.ljust(_DECIMALS, "0"))
    return -amount if sign == "-" else amount
