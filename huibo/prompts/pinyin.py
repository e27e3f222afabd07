"""Spoken Chinese to the pinyin that espeak-ng's voice `cmn-latn-pinyin` reads.

Pure. pypinyin knows the readings and the tone changes; here stand the words of this trade that it has wrong,
and the syllables that espeak-ng 1.52 cannot say.
"""

from __future__ import annotations

import re

from pypinyin import Style, lazy_pinyin, load_phrases_dict

# Readings that the context decides; in pypinyin's own notation.
_PHRASES = {
    "重听": "chóng tīng",
    "重播": "chóng bō",
    "重拨": "chóng bō",
    "重按": "chóng àn",
    "重输": "chóng shū",
    "长按": "cháng àn",
    "长时间": "cháng shí jiān",
    "还款": "huán kuǎn",
    "还款日": "huán kuǎn rì",
    "还清": "huán qīng",
    "应还": "yīng huán",
    "您的": "nín de",
    "为您": "wèi nín",
    "空房": "kòng fáng",
    "挪车": "nuó chē",
}
_SURNAMES = {
    "曾": "zēng",
    "单": "shàn",
    "解": "xiè",
    "仇": "qiú",
    "任": "rén",
    "区": "ōu",
    "华": "huà",
    "查": "zhā",
}
_TITLES = {
    "先生": "xiān shēng",
    "女士": "nǚ shì",
    "小姐": "xiǎo jiě",
    "老师": "lǎo shī",
    "经理": "jīng lǐ",
    "总": "zǒng",
}
_PHRASES |= {
    name + title: f"{said} {tail}" for name, said in _SURNAMES.items() for title, tail in _TITLES.items()
}
load_phrases_dict({words: [[one] for one in said.split()] for words, said in _PHRASES.items()})

# What the voice would spell out in English or swallow, and the nearest that it says: 熊 (xiong) as xong.
_UNSAYABLE = {"xiong": "xong", "qiong": "qong", "jiong": "jong", "wong": "weng"}
_UNSAYABLE |= {"hm": "heng", "hng": "heng", "m": "mu", "n": "en", "ng": "en", "ê": "ei"}

_FIRST_TONE = re.compile(r"(?<=[第十百千万零])一(?![百千万亿])|一(?=[月日号键])")
_CHUNK = re.compile(r"[^ ，。？]+|[，。？]")
# As long as a person makes them; a comma is too short, a full stop does nothing before a small letter.
_PAUSES = {"，": ";", "。": "!", "？": "!"}


def pinyin(spoken: str) -> str:
    """The pinyin of a Chinese `Segment`: 您好，… → `nin2 hao3; …`. What has no reading is left out."""
    words: list[str] = []
    for chunk in _CHUNK.findall(spoken):
        if chunk in _PAUSES:
            if words:
                words[-1] += _PAUSES[chunk]
            continue
        words += map(_sayable, _third_tones(_ones(chunk, _syllables(chunk))))
    return " ".join(words)


def _syllables(chunk: str) -> list[str]:
    return lazy_pinyin(
        chunk,
        style=Style.TONE3,
        neutral_tone_with_five=True,
        tone_sandhi=True,
        errors="ignore",
    )


def _ones(chunk: str, syllables: list[str]) -> list[str]:
    """一 keeps its first tone at the end of a number and in an ordinal: 十一点, 一月, 第一个."""
    fixed = list(syllables)
    if len(fixed) != len(chunk):  # a character had no reading
        return fixed
    for found in _FIRST_TONE.finditer(chunk):
        fixed[found.start()] = "yi1"
    return fixed


def _third_tones(syllables: list[str]) -> list[str]:
    """Of two third tones in a row the first becomes the second."""
    pairs = zip(syllables, [*syllables[1:], ""], strict=True)
    return [one[:-1] + "2" if one[-1:] == next_one[-1:] == "3" else one for one, next_one in pairs]


def _sayable(syllable: str) -> str:
    sound, tone = (syllable[:-1], syllable[-1]) if syllable[-1:].isdigit() else (syllable, "5")
    return _UNSAYABLE.get(sound, sound) + tone if sound else ""
