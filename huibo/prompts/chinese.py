"""Reads what is not a word the way a Chinese speaker would: numbers, dates, amounts, telephone numbers.

Pure; table driven. Digits that are read one by one come apart by spaces, groups of them by a pause, so that a
voice neither joins them to a word nor bends their tones.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from huibo.prompts.phones import groups_of
from huibo.prompts.tokens import Kind, Token, amount_of, is_range

_DIGITS = "零一二三四五六七八九"
_MOST_DIGITS = 16  # longer ones are read digit by digit
_LONG = 5  # and so are numbers of this length that count nothing

# What may follow a number that counts or measures, as opposed to one that names something. Before the first
# lot 2 is 两, elsewhere 二 (二月, 二楼, 第二).
_PAIRED = (
    "个|位|次|天|年|小时|分钟|秒|块|角|毛|条|件|张|份|人|名|倍|米|公里|千米|厘米|公斤|千克|克|吨|升|岁|层|本|台|辆|套|盒|"
    "箱|包|袋|瓶|杯|通|笔|遍|页|届|周|季度|千|万|亿|点|双|对|只|家|项|组|门|步|美元|港元|欧元|英镑|平方|立方|户|股"
)
_OTHERS = "月|日|斤|度|级|章|期|百|积分|分|港币|日元|人民币|元|兆|字|公顷|亩|多|余"
_PAIRS = re.compile(rf"\s?(?:{_PAIRED})")
_COUNTS = re.compile(rf"\s?(?:{_PAIRED}|{_OTHERS})")
_ROOM = re.compile(r"\s?(?:号?房|室)")
_IS = r"(?:号码?)?(?:\s|是|为|：|:|「|“)*$"
_AFTER_PHONE_WORD = re.compile(
    rf"(?:拨打|拨|致电|来电|电话|热线|手机|座机|传真|分机|呼叫|呼|转|尾号|短信|短号){_IS}"
)
_AFTER_CODE_WORD = re.compile(
    rf"(?:码|编号|订单|运单|单号|工号|卡号|账号|帐号|序号|流水号|学号|尾数|口令|航班|车次|QQ){_IS}"
)
_SERVICES = frozenset(
    [
        "10000",
        "10010",
        "10086",
        "10099",
        "12306",
        "12315",
        "12329",
        "12333",
        "12345",
        "12348",
        "12366",
        "12388",
    ]
)
_CURRENCY = {"¥": "元", "$": "美元", "US$": "美元", "HK$": "港元", "€": "欧元", "£": "英镑"}
_SYMBOLS = {
    "#": "井号",
    "*": "星号",
    "+": "加",
    "=": "等于",
    "&": "和",
    "@": "艾特",
    "%": "百分号",
    "‰": "千分号",
    "°": "度",
    "¥": "元",
    "$": "美元",
    "€": "欧元",
    "£": "英镑",
    "×": "乘",
    "÷": "除以",
    "±": "正负",
}


def read(token: Token) -> str:
    """What is said for a token; empty for one that is not spoken."""
    said = _READERS[token.kind](token)
    return f" {said} " if " " in said else said


def cardinal(number: str) -> str:
    """0 to 16 digits as a number: 128 → 一百二十八, 2000 → 两千. Longer ones digit by digit."""
    digits = number.lstrip("0")
    if not digits:
        return "零"
    if len(digits) > _MOST_DIGITS:
        return spelled(number)
    said = ""
    sections = [digits[max(0, end - 4) : end] for end in range(len(digits), 0, -4)][::-1]
    for place, section in enumerate(sections):
        unit = ("", "万", "亿", "万亿")[len(sections) - 1 - place]
        if unit == "万亿" and int(sections[place + 1]):
            unit = "万"  # 一万二千亿, not 一万亿二千亿
        value = int(section)
        if not value:
            continue
        gap = said and (value < 1000 or sections[place - 1] == "0000")
        words = "两" if value == 2 and unit and not said else _section(value)
        said += ("零" if gap else "") + words + unit
    return said.removeprefix("一") if said.startswith("一十") else said


def _section(value: int) -> str:
    """1 to 9999 without a unit behind it."""
    said, skipped = "", False
    for size, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // size % 10
        if not digit:
            skipped = bool(said)
            continue
        said += ("零" if skipped else "") + ("两" if digit == 2 and size == 1000 else _DIGITS[digit]) + unit
        skipped = False
    return said


def spelled(digits: str, one: str = "一") -> str:
    """Digit by digit. What is not a digit is left out."""
    return " ".join(one if digit == "1" else _DIGITS[int(digit)] for digit in digits if digit.isdigit())


def quantity(number: str) -> str:
    """A number as it is written: sign, thousands, decimals. 1,280.50 → 一千二百八十点五零."""
    sign = "负" if number.startswith("-") else ""
    whole, _, decimals = number.lstrip("-").replace(",", "").partition(".")
    return sign + cardinal(whole) + ("点" + spelled(decimals).replace(" ", "") if decimals else "")


def _number(token: Token) -> str:
    text, before, after = token.text, token.before, token.after
    counts = _COUNTS.match(after) is not None
    if text.isdigit():
        if _ROOM.match(after) and len(text) >= 3:
            return spelled(text, "幺")
        code = _AFTER_CODE_WORD.search(before)
        phone = _AFTER_PHONE_WORD.search(before) or (
            text in _SERVICES and not code and not re.search("[A-Za-z]$", before)
        )
        if not counts and phone and len(text) > 2:
            return spelled(text, "幺")
        if not counts and (len(text) >= _LONG or (code and len(text) > 1)):
            return spelled(text)
        if text.startswith("0") and len(text) > 1:
            return spelled(text)
        if re.fullmatch(r"(1[5-9]|20|21)\d\d", text) and after.lstrip().startswith("年"):
            return spelled(text).replace(" ", "")
        if len(text) == 2 and re.match(r"年\d{1,2}月", after):
            return spelled(text).replace(" ", "")
    if text == "2" and not before.endswith("第") and _PAIRS.match(after):
        return "两"
    return quantity(text)


def _date(token: Token) -> str:
    year, month, *day = re.split(r"[-/.]", token.text)
    said = spelled(year).replace(" ", "") + "年" + cardinal(month) + "月"
    return said + cardinal(day[0]) + "日" if day else said


def _time(token: Token) -> str:
    hour, minute, *second = token.text.split(":")
    said = _pair(cardinal(hour)) + "点"
    if int(minute) or second:
        said += _padded(minute) + "分"
    return said + _padded(second[0]) + "秒" if second else said


def _padded(two_digits: str) -> str:
    value = int(two_digits)
    return "零" + _DIGITS[value] if 0 < value < 10 else cardinal(two_digits)


def _phone(token: Token) -> str:
    said = "，".join(spelled(group, "幺") for group in groups_of(token.text))
    return f"加 {said}" if token.text.startswith("+") else said


def _money(token: Token) -> str:
    amount = amount_of(token.text)
    unit, number = _CURRENCY[amount.symbol], amount.number
    sign = "负" if amount.negative else ""
    if unit == "元" and not amount.size and len(number.partition(".")[2]) <= 2:
        return sign + _yuan(number)
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return sign + ("两" if number == "2" else quantity(number)) + amount.size + unit


def _yuan(number: str) -> str:
    """128.50 → 一百二十八元五角."""
    whole, _, decimals = number.partition(".")
    jiao, fen = map(int, f"{decimals:0<2}")
    yuan = "" if not whole.strip("0") and (jiao or fen) else _pair(cardinal(whole)) + "元"
    gap = "零" if yuan and fen and not jiao else ""
    said = yuan + (_pair(_DIGITS[jiao]) + "角" if jiao else gap)
    return said + (_DIGITS[fen] + "分" if fen else "")


def _pair(words: str) -> str:
    """A lone 二 before what is counted."""
    return "两" if words == "二" else words


def _percent(token: Token) -> str:
    number = token.text[:-1].rstrip()
    sign = "负" if number.startswith("-") else ""
    share = "百" if number == "100" and token.text[-1] == "%" else quantity(number.lstrip("-"))
    return sign + ("百分之" if token.text[-1] == "%" else "千分之") + share


def _degrees(token: Token) -> str:
    number, _, scale = token.text.partition("°")
    sign = "零下" if scale and number.startswith("-") else "负" if number.startswith("-") else ""
    return sign + quantity(number.strip().lstrip("-")) + ("摄氏度" if scale else "度")


def _fraction(token: Token) -> str:
    above, below = token.text.split("/")
    return cardinal(below) + "分之" + cardinal(above)


def _score(token: Token) -> str:
    return "比".join(map(cardinal, token.text.split(":")))


def _dotted(token: Token) -> str:
    return "点".join(spelled(part) for part in token.text.split("."))


def _chain(token: Token) -> str:
    """A range, when it rises: 1-3 → 一到三. Else parts of one long number, like 12-3456-78."""
    parts = re.split(r"[-~–—]", token.text)
    if is_range(parts):
        return "到".join(map(cardinal, parts))
    phone = _AFTER_PHONE_WORD.search(token.before)
    return "，".join(spelled(part, "幺" if phone else "一") for part in parts)


def _symbol(token: Token) -> str:
    return _SYMBOLS.get(token.text, "")  # a row of them is decoration


_READERS: dict[Kind, Callable[[Token], str]] = {
    Kind.HAN: lambda token: token.text,
    Kind.WORD: lambda token: token.text,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.PHONE: _phone,
    Kind.MONEY: _money,
    Kind.PERCENT: _percent,
    Kind.DEGREES: _degrees,
    Kind.FRACTION: _fraction,
    Kind.SCORE: _score,
    Kind.DOTTED: _dotted,
    Kind.CHAIN: _chain,
    Kind.TO: lambda _token: "到",
    Kind.TIMES: lambda _token: "乘",
    Kind.DOT: lambda _token: "点",
    Kind.NUMBER: _number,
    Kind.SYMBOL: _symbol,
}
