"""Reads what is not a word the way an English speaker would: dates, amounts, telephone numbers.

Pure. Short numbers stay digits: every English voice reads those itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from huibo.prompts.phones import groups_of
from huibo.prompts.tokens import Kind, Token, amount_of, is_range

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_LONG = 5  # numbers of this length are read digit by digit
_AFTER_CODE_WORD = re.compile(
    r"(?i)(?:code|pin|number|no|extension|ext|room|dial|call|order|ending(?: in)?)(?:\s|is|:|\.)*$"
)
_CURRENCY = {"¥": "yuan", "$": "dollars", "US$": "dollars", "HK$": "Hong Kong dollars", "€": "euros"}
_CURRENCY |= {"£": "pounds"}
_SYMBOLS = {
    "#": "hash",
    "*": "star",
    "+": "plus",
    "=": "equals",
    "&": "and",
    "@": "at",
    "%": "percent",
    "‰": "per mille",
    "°": "degrees",
    "¥": "yuan",
    "$": "dollars",
    "€": "euros",
    "£": "pounds",
    "×": "times",
    "÷": "divided by",
    "±": "plus minus",
}


def read(token: Token) -> str:
    """What is said for a token; empty for one that is not spoken."""
    return _READERS[token.kind](token)


def spelled(digits: str) -> str:
    """Digit by digit. What is not a digit is left out."""
    return " ".join(digit for digit in digits if digit.isdigit())


def quantity(number: str) -> str:
    """A number as it is written; the voice reads the digits. -1,280.5 → minus 1280.5."""
    return number.replace(",", "").replace("-", "minus ")


def _number(token: Token) -> str:
    text = token.text
    long = len(text) >= _LONG or (text.startswith("0") and len(text) > 1)
    if text.isdigit() and (long or _AFTER_CODE_WORD.search(token.before)):
        return spelled(text)
    return quantity(text)


def _date(token: Token) -> str:
    year, month, *day = re.split(r"[-/.]", token.text)
    said = _MONTHS[int(month) - 1]
    return f"{said} {int(day[0])}, {year}" if day else f"{said} {year}"


def _time(token: Token) -> str:
    hour, minute, *second = token.text.split(":")
    said = str(int(hour))
    if int(minute):
        said += f" {minute}" if int(minute) >= 10 else f" oh {int(minute)}"
    else:
        said += " o'clock"
    return f"{said} and {int(second[0])} seconds" if second else said


def _phone(token: Token) -> str:
    said = ", ".join(map(spelled, groups_of(token.text)))
    return f"plus {said}" if token.text.startswith("+") else said


def _money(token: Token) -> str:
    amount = amount_of(token.text)
    size = {"": "", "万": "ten thousand", "亿": "hundred million"}[amount.size]
    number = re.sub(r"\.0+$", "", amount.number)
    words = ["minus" if amount.negative else "", number, size, _CURRENCY[amount.symbol]]
    return " ".join(word for word in words if word)


def _percent(token: Token) -> str:
    return quantity(token.text[:-1].rstrip()) + (" percent" if token.text[-1] == "%" else " per mille")


def _degrees(token: Token) -> str:
    return quantity(token.text.partition("°")[0].strip()) + " degrees"


def _chain(token: Token) -> str:
    parts = re.split(r"[-~–—]", token.text)
    return " to ".join(parts) if is_range(parts) else ", ".join(map(spelled, parts))


_READERS: dict[Kind, Callable[[Token], str]] = {
    Kind.HAN: lambda token: token.text,
    Kind.WORD: lambda token: token.text,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.PHONE: _phone,
    Kind.MONEY: _money,
    Kind.PERCENT: _percent,
    Kind.DEGREES: _degrees,
    Kind.FRACTION: lambda token: token.text.replace("/", " over "),
    Kind.SCORE: lambda token: token.text.replace(":", " to "),
    Kind.DOTTED: lambda token: " dot ".join(spelled(part) for part in token.text.split(".")),
    Kind.CHAIN: _chain,
    Kind.TO: lambda _token: "to",
    Kind.TIMES: lambda _token: "times",
    Kind.DOT: lambda _token: "dot",
    Kind.NUMBER: _number,
    Kind.SYMBOL: lambda token: _SYMBOLS.get(token.text, ""),
}
