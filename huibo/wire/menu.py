"""The preCallerHandle structure: what the caller hears and may press, in our own words.

Pure. Clients without a menu send the structure with "" in it, so nothing said is no menu; half of one is
refused, because nobody could tell what was meant.
"""

from __future__ import annotations

from typing import NoReturn

from huibo.errors import Refusal, Refused
from huibo.model import Choice, Menu
from huibo.wire import fields as rules
from huibo.wire.body import Fields, text_of

MAX_PROMPT_CHARS = 500
MAX_REPEATS = 99
DEFAULT_REPEATS = 3

_NAME = "preCallerHandle"
KEYS = frozenset("0123456789*#ABCD")
OPERATE = {"1": Choice.CONNECT, "2": Choice.REPLAY, "3": Choice.RELEASE}


def parse_menu(handle: object) -> Menu | None:
    """The menu of a request, None when there is none. Raises `Refused` (-2) naming the member at fault."""
    if is_blank(handle):
        return None
    if not isinstance(handle, dict):
        _refuse("", "must be an object")
    members = _prefixed(handle)
    notice, prompt = _prompt(members, "readPrompt"), _prompt(members, "interruptPrompt")
    choices = _choices(handle.get("keyList"))
    if not notice and not prompt:
        if not choices:
            return None  # only a gender, a number or a URL: nothing to say and nothing to press
        _refuse("interruptPrompt", "required, or readPrompt")
    if not choices:
        _refuse("keyList", "required with a prompt")
    gender = rules.whole(members, f"{_NAME}.promptGender", 1, 2)
    repeats = rules.whole(members, f"{_NAME}.repeatTimes", 0, MAX_REPEATS)
    try:
        key_url = rules.url(members, f"{_NAME}.keyPressUrl")
    except Refused as refused:  # -103 is for the three URLs of the request itself
        raise Refused(Refusal.PARAMETER, refused.message) from None
    return Menu(
        notice=notice,
        prompt=prompt,
        choices=choices,
        repeats=DEFAULT_REPEATS if repeats is None else repeats,
        male=gender == 2,
        key_url=key_url,
    )


def is_blank(value: object) -> bool:
    """Nothing said, however deeply wrapped."""
    match value:
        case dict():
            return all(is_blank(member) for member in value.values())
        case list():
            return all(is_blank(member) for member in value)
    return value is None or value == ""


def _choices(key_list: object) -> tuple[tuple[str, Choice], ...]:
    """The key list: an array, or the page's single object."""
    entries = key_list if isinstance(key_list, list) else [key_list]
    choices: dict[str, Choice] = {}
    for entry in entries:
        if is_blank(entry):
            continue
        if not isinstance(entry, dict):
            _refuse("keyList", "must hold objects")
        members = _prefixed(entry, "keyList.")
        key = rules.required(members, f"{_NAME}.keyList.key").upper()
        operate = rules.required(members, f"{_NAME}.keyList.operate")
        if key not in KEYS:
            _refuse("keyList.key", "not one of 0-9 * # A-D")
        if operate not in OPERATE:
            _refuse("keyList.operate", "not 1, 2 or 3")
        if key in choices:
            _refuse("keyList.key", f"{key} given twice")
        choices[key] = OPERATE[operate]
    return tuple(choices.items())


def _prompt(members: Fields, name: str) -> str:
    value = members.get(f"{_NAME}.{name}")
    if isinstance(value, str):  # prompts are written in editors: line breaks are as good as blanks
        members = {f"{_NAME}.{name}": " ".join(value.split())}
    text = text_of(members, f"{_NAME}.{name}")
    if len(text) > MAX_PROMPT_CHARS:
        _refuse(name, f"longer than {MAX_PROMPT_CHARS} characters")
    return text


def _prefixed(members: Fields, path: str = "") -> Fields:
    """The members under the names by which a refusal calls them."""
    return {f"{_NAME}.{path}{name}": value for name, value in members.items()}


def _refuse(member: str, why: str) -> NoReturn:
    raise Refused(Refusal.PARAMETER, f"{_NAME}{'.' if member else ''}{member}: {why}")
