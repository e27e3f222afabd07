"""The phones of the sandbox network: the last two digits of a number choose what its phone does.

The one truth about them: the dialplan is rendered from this table, and people read `describe()`. Knows
nothing of files, processes or audio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

# Keys are pressed for a minute: at 2 s after the answer, at 6 s, … at 58 s.
FIRST_PRESS_S = 2
PRESS_EVERY_S = 4
PRESSES = 15


@dataclass(frozen=True, slots=True)
class Ring:
    """180, then nothing for `seconds`; None: for ever."""

    seconds: int | None


@dataclass(frozen=True, slots=True)
class Announce:
    """183 and an announcement of the network for `seconds`, without an answer."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Answer:
    """200, and from then on the number's own tone; not a single packet when `silent`."""

    silent: bool = False


@dataclass(frozen=True, slots=True)
class Press:
    """Press `first`, then `rest` again and again (see PRESSES)."""

    first: str
    rest: str


@dataclass(frozen=True, slots=True)
class Stay:
    """Wait until the other side ends the call; None: for ever, else hang up after `seconds`."""

    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """End an unanswered call with a SIP response code."""

    code: int


Step = Ring | Announce | Answer | Press | Stay | Refuse


@dataclass(frozen=True, slots=True)
class Phone:
    """What the phone of every number that ends in `digits` does, step by step, and in words."""

    digits: str
    steps: tuple[Step, ...]
    english: str
    chinese: str


def _presser(digits: str, first: str, rest: str | None = None) -> Phone:
    english, chinese = (
        (f"presses {first} every 4 s", f"每 4 秒按 {first} 键")
        if rest is None
        else (f"presses {first} once, then {rest} every 4 s", f"先按 {first} 键，之后每 4 秒按 {rest} 键")
    )
    return Phone(
        digits,
        (Ring(1), Answer(), Press(first, rest or first), Stay()),
        f"answers after 1 s, {english} for a minute, then stays",
        f"1 秒后接听，{chinese}，持续一分钟，之后不挂机",
    )


def _refuser(digits: str, code: int, english: str, chinese: str) -> Phone:
    return Phone(digits, (Refuse(code),), english, chinese)


PHONES: tuple[Phone, ...] = (
    Phone("00", (Ring(1), Answer(), Stay()), "answers after 1 s and stays", "1 秒后接听，不挂机"),
    Phone(
        "01", (Ring(1), Answer(), Stay(5)), "answers after 1 s, hangs up 5 s later", "1 秒后接听，5 秒后挂机"
    ),
    Phone(
        "02",
        (Ring(1), Answer(), Stay(15)),
        "answers after 1 s, hangs up 15 s later",
        "1 秒后接听，15 秒后挂机",
    ),
    Phone("03", (Ring(5), Answer(), Stay()), "rings 5 s, answers and stays", "振铃 5 秒后接听，不挂机"),
    Phone("04", (Ring(None),), "rings and is never answered", "一直振铃，无人接听"),
    _refuser("05", 486, "busy at once (486)", "立即返回忙线（486）"),
    Phone("06", (Ring(2), Refuse(603)), "rings 2 s, declines (603)", "振铃 2 秒后拒接（603）"),
    _refuser("07", 404, "no such number (404)", "空号（404）"),
    Phone(
        "08",
        (Announce(4), Refuse(480)),
        "switched off: 4 s of announcement before an answer (183), then 480",
        "关机：接通前播放 4 秒网络提示音（183），然后返回 480",
    ),
    _refuser("09", 503, "the carrier has no line (503)", "运营商无可用线路（503）"),
    *(_presser(f"1{key}", key) for key in "0123456789"),
    _presser("20", "*"),
    _presser("21", "#"),
    _presser("22", "A"),
    _presser("23", "9", "1"),
    Phone(
        "24",
        (Ring(1), Answer(silent=True), Stay()),
        "answers after 1 s and sends no audio at all",
        "1 秒后接听，但不发送任何音频",
    ),
    _refuser("25", 480, "out of reach at once, without ringing (480)", "无法接通，不振铃（480）"),
    _refuser("26", 500, "the carrier fails at once (500)", "运营商立即返回故障（500）"),
    Phone(
        "27",
        (Ring(2), Refuse(503)),
        "rings 2 s, then the carrier fails (503)",
        "振铃 2 秒后运营商故障（503）",
    ),
)

ELSE = _refuser("..", 404, "any other number: no such number (404)", "其他尾号：空号（404）")


def phone_of(number: str) -> Phone:
    """The phone that a number reaches."""
    return next((phone for phone in PHONES if phone.digits == number[-2:]), ELSE)


class Row(NamedTuple):
    """One line for people: the last two digits (".." for all others) and what the phone does."""

    digits: str
    english: str
    chinese: str


def describe() -> list[Row]:
    """The table of phones, in order."""
    return [Row(phone.digits, phone.english, phone.chinese) for phone in (*PHONES, ELSE)]
