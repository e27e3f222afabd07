"""Cuts written text into what is read in one way: words, dates, times, amounts, telephone numbers …

Pure. Says what a piece is, not how it is read: that differs by language (`chinese`, `english`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


class Kind(StrEnum):
    """How a piece is read. The order matters: of two that fit at the same place the earlier is taken."""

    HAN = "han"  # Chinese characters
    DATE = "date"  # 2026-11-22, 2026/11
    TIME = "time"  # 12:30, 9:05:00
    PHONE = "phone"
    MONEY = "money"  # ¥128.50, 128.5元, $1,280
    PERCENT = "percent"
    DEGREES = "degrees"  # -3°C
    FRACTION = "fraction"  # 1/2
    SCORE = "score"  # 3:2
    DOTTED = "dotted"  # 192.168.1.1
    CHAIN = "chain"  # 1-3, 12-3456-78
    TO = "to"  # the dash of 5%-10%
    TIMES = "times"  # the cross of 7x24
    WORD = "word"  # letters of any script but Chinese
    NUMBER = "number"
    DOT = "dot"  # of a domain name
    MARK = "mark"  # a pause
    SPACE = "space"
    SYMBOL = "symbol"  # one that has a name
    NOISE = "noise"  # not spoken


_NUM = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?)"
_SIGN = r"(?:(?<![0-9A-Za-z%‰元月日号点年])-)?"
_ALONE = r"(?<![0-9])"
_END = r"(?![0-9])"

_PATTERNS: dict[Kind, str] = {
    Kind.HAN: f"[{HAN}]+",
    Kind.DATE: rf"{_ALONE}(?:\d{{4}}(?P<sep>[-/.])(?:0?[1-9]|1[0-2])(?P=sep)(?:0?[1-9]|[12]\d|3[01])"
    rf"|(?:19|20)\d\d[-/](?:0?[1-9]|1[0-2]))(?![-/.]?[0-9])",
    Kind.TIME: r"(?<![\d:])(?:[01]?\d|2[0-4]):[0-5]\d(?::[0-5]\d)?(?![\d:])",
    Kind.PHONE: rf"{_ALONE}(?:"
    r"(?:(?:\+|00)86[- ]?)?1[3-9]\d(?:\d{8}|[- ]\d{4}[- ]\d{4}|\*{2,}\d{2,4})"  # mobile, also masked
    r"|[48]00(?:\d{7}|[- ]\d{3}[- ]?\d{4}|[- ]\d{4}[- ]\d{3})"  # toll-free
    r"|(?:(?:\+|00)86[- ]?)?\(?0\d{2,3}(?:\)[- ]?|[- ]?)\d{3,4}[- ]?\d{4}"  # landline
    r"|\+(?=(?:[- ]?\d){7,15}(?!\d))\d{1,3}(?:[- ]?\d{2,11}){1,5}"  # abroad
    rf"){_END}",
    Kind.MONEY: rf"{_SIGN}(?:US|HK)?[¥$€£] ?-?{_NUM}[万亿]?元?|{_SIGN}{_ALONE}{_NUM} ?元",
    Kind.PERCENT: rf"{_SIGN}{_ALONE}{_NUM} ?[%‰]",
    Kind.DEGREES: rf"{_SIGN}{_ALONE}{_NUM} ?°C?",
    Kind.FRACTION: r"(?<![\d/])\d{1,3}/\d{1,3}(?![\d/])",
    Kind.SCORE: r"(?<![\d:])\d{1,3}:\d{1,3}(?![\d:])",
    Kind.DOTTED: rf"{_ALONE}\d+(?:\.\d+){{2,}}",
    Kind.CHAIN: rf"{_ALONE}\d+(?:[-~–—]\d+)+(?![.:]?\d|[%‰°])",
    Kind.TO: r"(?<=[\d%‰元月日号点年])(?:[-~–—]|\s[-~–—]\s)(?=[¥$€£]?\d)",
    Kind.TIMES: r"(?<=\d) ?[xX×] ?(?=\d)",
    Kind.WORD: rf"(?:(?![{HAN}])[^\W\d_])+(?:'(?:(?![{HAN}])[^\W\d_])+)*",
    Kind.NUMBER: rf"{_SIGN}{_NUM}",
    Kind.DOT: r"(?<=[A-Za-z0-9])\.(?=(?:[a-z0-9-]{1,63}\.){0,3}(?:com|cn|net|org|gov|edu|io|cc|top|vip)\b)",
    Kind.MARK: r"\s*(?:\.{2,}|[—–]+|[,.!?;:、。；！？()（）…\n]+)\s*",
    Kind.SPACE: r"\s+",
    Kind.SYMBOL: r"(?P<twin>[#*=~_-])(?P=twin)+|[#*+=&@%‰°¥$€£×÷±]",
    Kind.NOISE: r"[\s\S]",
}
_PIECE = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _PATTERNS.items()))


def is_range(parts: list[str]) -> bool:
    """Whether the numbers of a CHAIN are from-to: two short ones, the second larger. 1-3, not 021-6400."""
    first, *rest = parts
    plain = all(len(part) <= 4 and (part == "0" or not part.startswith("0")) for part in parts)
    return plain and len(rest) == 1 and int(first) < int(rest[0])


@dataclass(frozen=True, slots=True)
class Amount:
    """The parts of MONEY: -US$1,280.50 → minus, US$, 1280.50; ¥1.5万 has the size 万."""

    negative: bool
    symbol: str
    number: str
    size: str


def amount_of(money: str) -> Amount:
    found = re.fullmatch(r"-?((?:US|HK)?[¥$€£])? ?-?([\d,.]+)([万亿]?) ?元?", money)
    assert found is not None
    return Amount("-" in money, found[1] or "¥", found[2].replace(",", ""), found[3])


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the tidied text and what stands next to it (up to 12 characters either side)."""

    kind: Kind
    text: str
    before: str = ""
    after: str = ""


def tokens(text: str) -> Iterator[Token]:
    """The pieces of any text, in order. Together they are the tidied text."""
    text = tidy(text)
    for found in _PIECE.finditer(text):
        assert found.lastgroup is not None
        start, end = found.span()
        yield Token(Kind(found.lastgroup), found[0], text[max(0, start - 12) : start], text[end : end + 12])


def tidy(text: str) -> str:
    """One form for each character: half-width, ASCII digits; no controls, formats, surrogates, emoji."""
    text = unicodedata.normalize("NFKC", "".join(map(_apart, text)))
    return "".join(map(_plain, text))


def _apart(char: str) -> str:
    """1½ must not become 11/2, nor the pause in 1，234 the separator of thousands."""
    if char == "，":
        return "、"
    return f" {char}" if unicodedata.decomposition(char).startswith("<fraction>") else char


_SAME = {"−": "-", "⁄": "/", "〜": "~", "·": " ", "’": "'", "￥": "¥"}


def _plain(char: str) -> str:
    if char in _SAME:
        return _SAME[char]
    if char == "\n" or char == "\r" or char in "\u2028\u2029":
        return "\n"
    match unicodedata.category(char):
        case "Nd":
            return str(unicodedata.decimal(char))
        case "Zs" | "Zl" | "Zp":
            return " "
        case "Cc":
            return " " if char in "\t\v\f" else ""
        case "Cf" | "Cs" | "Co" | "Cn" | "Mn" | "Me" | "Mc" | "Sk":
            return ""
        case "So":
            return char if char == "°" else " "
        case _:
            return char
