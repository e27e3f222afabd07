"""Chinese numbers read back by an independent parser; telephone numbers keep their digits; pinyin."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from huibo.prompts.chinese import cardinal, quantity, spelled
from huibo.prompts.phones import groups_of
from huibo.prompts.text import segments

ROOT = Path(__file__).parents[2]


def value_of(said: str) -> int:
    """What a listener understands."""
    for unit, size in (("亿", 10**8), ("万", 10**4)):
        if unit in said:
            above, _, below = said.rpartition(unit)
            return value_of(above) * size + value_of(below)
    total, digit = 0, 0
    for char in said:
        if char in "千百十":
            total += (digit or 1) * {"千": 1000, "百": 100, "十": 10}[char]
            digit = 0
        else:
            digit = 2 if char == "两" else "零一二三四五六七八九".index(char)
    return total + digit


@given(st.integers(0, 10**16 - 1))
@example(0)
@example(10)
@example(10**8 + 2)
@example(10**15)
@example(2 * 10**12)
@example(1_000_0001_0000_0001)
def test_a_number_is_understood_as_it_was_meant(number: int) -> None:
    assert value_of(cardinal(str(number))) == number


@given(st.integers(0, 10**16 - 1))
def test_a_number_is_said_as_people_do(number: int) -> None:
    said = cardinal(str(number))
    assert "零零" not in said
    assert not said.startswith("一十")
    assert said == "零" or not said.endswith("零")
    assert "两十" not in said
    assert "两百" not in said
    assert not said.endswith("两")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("10", "十"),
        ("12", "十二"),
        ("110", "一百一十"),
        ("105", "一百零五"),
        ("200", "二百"),
        ("2000", "两千"),
        ("2200", "两千二百"),
        ("10010", "一万零一十"),
        ("20000", "两万"),
        ("100000", "十万"),
        ("120000", "十二万"),
        ("22222", "两万两千二百二十二"),
        ("100000000", "一亿"),
        ("100002345", "一亿零两千三百四十五"),
        ("1000000000000", "一万亿"),
        ("1200000000000", "一万两千亿"),
        ("00120", "一百二十"),
        ("1" * 17, spelled("1" * 17)),
    ],
)
def test_numbers(number: str, said: str) -> None:
    assert cardinal(number) == said


def test_quantities() -> None:
    assert quantity("-1,280.50") == "负一千二百八十点五零"
    assert quantity("0.05") == "零点零五"


@given(st.from_regex(r"\+?[0-9]{1,4}([- ()]?[0-9]{1,9}){0,4}", fullmatch=True))
def test_no_digit_of_a_telephone_number_is_lost(number: str) -> None:
    groups = groups_of(number)
    assert "".join(groups) == "".join(char for char in number if char.isdigit())
    assert all(1 <= len(group) <= 5 for group in groups)


# pypinyin is 60 MB of memory: it is loaded in other processes only, here too


def pinyins(texts: list[str]) -> list[str]:
    code = (
        "import json, sys; from huibo.prompts.pinyin import pinyin; from huibo.prompts.text import segments\n"
        "texts = json.load(sys.stdin)\n"
        "print(json.dumps([' '.join(pinyin(one.text) for one in segments(text)) for text in texts]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    said: list[str] = json.loads(done.stdout)
    return said


READINGS = {
    "您好，请稍候。": "nin2 hao3; qing3 shao1 hou4!",
    "银行行长": "yin2 hang2 hang2 zhang3",
    "重新播放": "chong2 xin1 bo1 fang4",
    "重听请按2": "chong2 ting1 qing3 an4 er4",
    "长按1键": "chang2 an4 yi1 jian4",
    "您的还款日": "nin2 de5 huan2 kuan3 ri4",
    "曾先生": "zeng1 xian1 sheng1",
    "一个": "yi2 ge4",
    "第一个": "di4 yi1 ge4",
    "一月一日": "yi1 yue4 yi1 ri4",
    "十一点": "shi2 yi1 dian3",
    "一百一十一": "yi4 bai3 yi1 shi2 yi1",
    "不是": "bu2 shi4",
    "你好": "ni2 hao3",
    "我有": "wo2 you3",
    "订单12345": "ding4 dan1 yi1 er4 san1 si4 wu3",
    "女儿": "nv3 er2",
    "熊先生": "xong2 xian1 sheng1",
    "兄弟": "xong1 di4",
    "嗯": "en2",
}


def test_readings() -> None:
    assert dict(zip(READINGS, pinyins(list(READINGS)), strict=True)) == READINGS


SAYABLE = """
import ctypes, json, sys
from pypinyin import pinyin_dict
from huibo.prompts.pinyin import pinyin
from huibo.prompts.espeak_library import Library
library = Library()._library
library.espeak_TextToPhonemes.restype = ctypes.c_char_p
library.espeak_SetVoiceByName(b"cmn-latn-pinyin")
said = {pinyin(chr(code)) for code in pinyin_dict.pinyin_dict if 0x3400 <= code < 0x30000}
strange = []
for syllable in sorted(said - {""}):
    left = ctypes.c_char_p(syllable.encode())
    phonemes = library.espeak_TextToPhonemes(ctypes.byref(left), 1, 0).decode()
    if "(en)" in phonemes or not any(tone in phonemes for tone in ("55", "35", "214", "21", "51", "11")):
        strange.append((syllable, phonemes))
print(json.dumps([len(said), strange]))
"""


def test_espeak_says_every_syllable_there_is_with_its_tone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAYABLE], capture_output=True, text=True, cwd=ROOT, check=True
    )
    count, strange = json.loads(done.stdout)
    assert count > 1200
    assert strange == []


def test_only_the_helper_process_knows_espeak_and_pypinyin() -> None:
    users = {}
    for file in sorted((ROOT / "huibo").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.split(".")[0] in ("espeakng_loader", "pypinyin") or "espeak_library" in name:
                    users.setdefault(name, set()).add(file.name)
    assert users == {
        "espeakng_loader": {"espeak_library.py"},
        "huibo.prompts.espeak_library": {"espeak_worker.py"},
        "pypinyin": {"pinyin.py"},
    }
    code = "import sys, huibo.prompts.choose; print({'pypinyin', 'espeakng_loader'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_an_english_text_has_no_pinyin_in_it() -> None:
    assert [one.language.value for one in segments("Hello 世界")] == ["en", "zh"]
