"""What an operator reads: no telephone number in full, and everything else as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from huibo.config import Log
from huibo.log import mask_numbers, to_json

# Speaks in every way in which the program and its libraries do, after real set-up, to real standard error.
SPEAKER = """
import asyncio, json, logging, sys
import structlog
from huibo.config import Log
from huibo.log import configure

log = structlog.get_logger()
form, mask, level, lines = json.loads(sys.argv[1])
configure(Log(format=form, level=level, mask=mask))
bound = log.bind(call="c")
for line in lines:
    bound.info(line, value=line)
    logging.getLogger("uvicorn.error").warning("library: %s", line)
    try:
        local = line * 2
        raise ValueError(line)
    except ValueError as error:
        log.exception("own", reason=str(error))
        logging.getLogger("asyncio").error("library", exc_info=error)
        log.error("part failed", exc_info=error)
log.debug("debugging")
"""

PHONES = [
    ("13800138000", "138******00"),
    ("+8613800138000", "138******00"),
    ("008613800138000", "138******00"),
    ("8613800138000", "138******00"),
    ("01088880000", "010******00"),
    ("075586013388", "075*******88"),
    ("+8675586013388", "075*******88"),
    ("0086075586013388", "075*******88"),
    ("13800860086", "138******86"),  # 0086 inside is no prefix
    ("+442079460958", "020******58"),
]
AROUND = [
    "{}",
    "number {}.",
    "sip:{}@192.0.2.1:5060",
    "PJSIP/{}@trunk-x",
    '{{"src":"{}"}}',
    "主叫{}无效",
    "({})",
]
UNTOUCHED = [
    "12-261122-0123456789abcdef0123456789abcdef",
    "12-261122-01388001380001380013800013800138-a",  # a call id whose random part looks like numbers
    "bridges/12-261122-13800138000138001380001380013800",
    "2026-11-22T13:22:18.819748Z",
    "1763817738",
    "1763817738819",
    "127.0.0.1:18080 192.0.2.1 [2001:db8::1]:5060",
    "Asterisk 22.10.1",
    "0.123 486 1800 65535",
]


@dataclass(frozen=True)
class Hiding:
    """What its text does not show is not to be logged."""

    shown: int
    hidden: str = field(repr=False)


WHEN = datetime(2026, 11, 22, tzinfo=UTC)
HIDING = Hiding(1, "secret")


def speak(form: str, lines: Sequence[str], *, mask: bool = True, level: str = "info") -> str:
    done = subprocess.run(
        [sys.executable, "-c", SPEAKER, json.dumps([form, mask, level, lines])],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == ""
    return done.stderr


def masked(text: str) -> str:
    return str(mask_numbers(None, "info", {"event": text})["event"])


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize(("phone", "shown"), PHONES)
def test_a_number_is_masked_wherever_it_stands(phone: str, shown: str, around: str) -> None:
    assert masked(around.format(phone)) == around.format(shown)


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_is_no_number_stays(text: str) -> None:
    assert masked(text) == text


def test_other_values_than_text_stay_as_they_are() -> None:
    event = {"event": "x", "timestamp": "2026-11-22T13:22:18.819748Z", "port": 18080, "none": None}
    assert mask_numbers(None, "info", dict(event)) == event


@pytest.mark.parametrize(
    "value",
    ["主叫", "two\nlines", '"', "half \udcff a pair", 2**70, -1.5, True, None, [1, "x"], {"a": {"b": 1}}],
)
def test_any_value_can_be_told(value: object) -> None:
    line = to_json({"event": "x", "value": value}, repr)
    assert json.loads(line) == {"event": "x", "value": value}
    assert b"\n" not in line


@pytest.mark.parametrize("value", [Log(format="json", level="info", mask=True), WHEN, HIDING, b"\xff", {1}])
def test_what_is_no_json_is_shown_as_python_shows_it(value: object) -> None:
    assert json.loads(to_json({"value": value}, repr)) == {"value": repr(value)}


LINES = [around.format(phone) for phone, _ in PHONES for around in AROUND] + UNTOUCHED


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_number_leaves_the_process_in_full(form: str) -> None:
    said = speak(form, LINES)
    for text in sorted(UNTOUCHED, key=len, reverse=True):  # one is the beginning of another
        # the event and its value, the library's line, the reason, three tracebacks
        assert said.count(text) == 7, text
        said = said.replace(text, "")
    for phone, shown in PHONES:
        assert phone not in said
        assert shown in said
    assert said.count("Traceback (most recent call last)") == 3 * len(LINES)
    assert "local" not in said  # tracebacks show no variables: they hold more than numbers
    if form == "json":
        first, library, own, foreign, failed = map(json.loads, said.splitlines()[:5])
        assert first.keys() == {"call", "event", "level", "timestamp", "value"}
        assert first["event"] == first["value"] == PHONES[0][1]
        assert (first["call"], first["level"]) == ("c", "info")
        assert (library["event"], library["level"]) == (f"library: {PHONES[0][1]}", "warning")
        assert (own["event"], own["level"], own["reason"]) == ("own", "error", PHONES[0][1])
        for line in (own, foreign, failed):
            assert line["exception"].splitlines()[-1] == f"ValueError: {PHONES[0][1]}"


def test_the_operator_may_see_numbers_and_more_or_less() -> None:
    said = speak("json", ["13800138000"], mask=False, level="debug")
    assert said.count("13800138000") == 7
    assert "debugging" in said
    said = speak("console", ["hello"], level="error")
    assert "own" in said
    assert "value=hello" not in said
    assert "library: hello" not in said
    assert "debugging" not in said
