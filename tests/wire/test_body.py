"""Bodies: what can be read, what its fields are, and how what cannot be read is named."""

from __future__ import annotations

import json
import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.errors import Refusal, Refused
from huibo.wire.body import MAX_DEPTH, decode, text_of


def refusal(raw: bytes) -> str:
    with pytest.raises(Refused) as refused:
        decode(raw)
    assert refused.value.refusal is Refusal.PARAMETER
    return refused.value.message


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "body: empty"),
        (b" \r\n", "body: empty"),
        (b"\xef\xbb\xbf", "body: empty"),
        (b"\xff\xfe{\x00}\x00", "body: not utf-8"),
        ('{"a":"号"}'.encode("gbk"), "body: not utf-8"),
        (b'{"a":"\xed\xa0\x80"}', "body: not utf-8"),
        (b"appId=1&src=2", "body: not json"),
        (b'{"a":"b"', "body: not json"),
        (b"{'a':'b'}", "body: not json"),
        (b'{"a":"b",}', "body: not json"),
        (b'{"a":"b"}{}', "body: not json"),
        (b'{"a":"\n"}', "body: not json"),
        (b'{"a":"\x00"}', "body: not json"),
        (b'{"a":007}', "body: not json"),
        (b'{"a":"\\x41"}', "body: not json"),
        (b"[]", "body: not a json object"),
        (b'"a"', "body: not a json object"),
        (b"1", "body: not a json object"),
        (b"null", "body: not a json object"),
        (b'{"a":NaN}', "body: NaN is not json"),
        (b'{"a":-Infinity}', "body: -Infinity is not json"),
        (b'{"src":"1","src":"2"}', "src: given twice"),
        (b'{"src":"1","\\u0073rc":"1"}', "src: given twice"),
        (b'{"a":[{"key":"1","key":"2"}]}', "key: given twice"),
        (b'{"\\u0000 x":"1","\\u0000 x":"2"}', "body: given twice"),
        (b'{"a":"\\ud83d"}', "body: half a surrogate pair"),
        (b'{"a":{"b":["\\ude00\\ud83d"]}}', "body: half a surrogate pair"),
        (b'{"\\ud800":"1"}', "body: half a surrogate pair"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "body: nested too deeply"),
        (b"[" * 65536, "body: nested too deeply"),
        (b'{"a":' * 10000, "body: nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(raw: bytes, message: str) -> None:
    assert refusal(raw) == message


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b"\xef\xbb\xbf{}",
        b" \r\n\t{ } ",
        b'{"unknown":[1.5,true,null,{"x":"\\u0000"}]}',
        b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
        b'{"a":"' + b"[{" * 1000 + b'"}',
        b'{"a":"\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}',
        b'{"a":1' + b"0" * 60000 + b"}",
        b'{"a":1' + b"0" * 60000 + b".5e99999}",
    ],
)
def test_what_is_json_is_read(raw: bytes) -> None:
    assert isinstance(decode(raw), dict)


def test_the_escapes_of_the_vendors_own_php_client_are_read() -> None:
    fields = decode(rb'{"statusUrl":"http:\/\/192.0.2.1:8080\/s","readPrompt":"\u6b22\u8fce\ud83d\ude00"}')
    assert text_of(fields, "statusUrl") == "http://192.0.2.1:8080/s"
    assert text_of(fields, "readPrompt") == "欢迎😀"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"abc"', "abc"),
        ('""', ""),
        ("null", ""),
        ("0", "0"),
        ("10280", "10280"),
        ("-1", "-1"),
        ("1400000001", "1400000001"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"号"', "号"),
        ('" x "', " x "),
    ],
)
def test_a_text_or_an_integer_is_a_text(value: str, text: str) -> None:
    assert text_of(decode(f'{{"name":{value}}}'.encode()), "name") == text


def test_a_field_that_is_missing_is_empty() -> None:
    assert text_of(decode(b"{}"), "name") == ""


@pytest.mark.parametrize("value", ["true", "false", "1.0", "1e3", "0.5", "[]", "{}", '["a"]', '{"a":"b"}'])
def test_what_is_no_text_is_refused_with_the_fields_name(value: str) -> None:
    with pytest.raises(Refused) as refused:
        text_of(decode(f'{{"name":{value}}}'.encode()), "name")
    assert refused.value.refusal is Refusal.PARAMETER
    assert refused.value.message == "name: must be a string"


@pytest.mark.parametrize("escape", ["0000", "0009", "000a", "000d", "001b", "007f", "0085"])
def test_control_characters_are_refused_where_they_are_read(escape: str) -> None:
    fields = decode(f'{{"name":"a\\u{escape}b"}}'.encode())
    assert text_of(fields, "other") == ""
    with pytest.raises(Refused) as refused:
        text_of(fields, "name")
    assert refused.value.message == "name: control characters"


def test_no_other_character_is_a_control_character() -> None:
    texts = (chr(code) for code in range(sys.maxunicode + 1))
    control = {text for text in texts if unicodedata.category(text) == "Cc"}
    assert len(control) == 65
    for text in control:
        with pytest.raises(Refused, match="control characters"):
            text_of({"name": text}, "name")
    others = "".join(chr(code) for code in range(sys.maxunicode + 1) if chr(code) not in control)
    assert text_of({"name": others}, "name") == others


@given(levels=st.integers(0, MAX_DEPTH + 8), text=st.text('[]{}\\"a'), beside=st.integers(0, 40))
def test_only_brackets_outside_of_texts_are_levels(levels: int, text: str, beside: int) -> None:
    value: object = text
    for level in range(levels):
        value = [text, value] if level < beside else {text: value}
    raw = json.dumps({"a": value}).encode()
    if levels < MAX_DEPTH:
        assert decode(raw) == {"a": value}
    else:
        assert refusal(raw) == "body: nested too deeply"


@given(st.dictionaries(st.text(), st.text()))
def test_every_object_of_texts_is_read_as_it_is(fields: dict[str, str]) -> None:
    assert decode(json.dumps(fields).encode()) == fields
    assert decode(json.dumps(fields, ensure_ascii=False).encode()) == fields


@pytest.mark.parametrize(
    "raw", [b'"' + b'\\"' * 32000, b'"' * 65536, b"\\" * 65536, b'{"' + b"\\\\" * 32000, b"{}[]" * 16000]
)
def test_no_body_takes_long(raw: bytes) -> None:
    started = time.process_time()
    refusal(raw)
    assert time.process_time() - started < 1.0
