"""Written text to spoken words: what is said, in which language; nothing is lost, nothing makes it fail."""

from __future__ import annotations

import re
import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from huibo.prompts.text import Language, Segment, language_of, segments, spoken
from huibo.prompts.tokens import HAN, tokens

ZH, EN = Language.ZH, Language.EN
ANYTHING = st.text(st.characters(exclude_categories=()))  # lone surrogates and unassigned ones too
ONE_HAN = re.compile(f"[{HAN}]")


def zh(text: str) -> str:
    """The only segment of a Chinese text."""
    (segment,) = segments(text)
    assert segment.language is ZH
    return segment.text


def en(text: str) -> str:
    (segment,) = segments(text)
    assert segment.language is EN
    return segment.text


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("您好", "您好"),
        # telephone numbers: digit by digit in groups, 1 is 幺
        ("请拨打13800138000。", "请拨打 幺 三 八，零 零 幺 三，八 零 零 零。"),
        ("138 0013 8000", "幺 三 八，零 零 幺 三，八 零 零 零"),
        ("138-0013-8000", "幺 三 八，零 零 幺 三，八 零 零 零"),
        ("008613800138000", "零 零 八 六，幺 三 八，零 零 幺 三，八 零 零 零"),
        ("+8613800138000", "加 八 六，幺 三 八，零 零 幺 三，八 零 零 零"),
        ("+1 650 253 0000", "加 幺，六 五 零，二 五 三，零 零 零 零"),
        ("138****8000", "幺 三 八，八 零 零 零"),
        ("400-136-0123", "四 零 零，幺 三 六，零 幺 二 三"),
        ("4001360123", "四 零 零，幺 三 六，零 幺 二 三"),
        ("400-1360-123", "四 零 零，幺 三 六 零，幺 二 三"),
        ("02131264133", "零 二 幺，三 幺 二 六，四 幺 三 三"),
        ("021-64001234", "零 二 幺，六 四 零 零，幺 二 三 四"),
        ("(0755)86013388", "零 七 五 五，八 六 零 幺，三 三 八 八"),
        ("0571-8601338转8001", "零 五 七 幺，八 六 零，幺 三 三 八 转 八 零 零 幺"),
        ("请拨110或10086", "请拨 幺 幺 零 或 幺 零 零 八 六"),
        ("尾号8011", "尾号 八 零 幺 幺"),
        # numbers that name something: digit by digit
        ("订单12345", "订单 一 二 三 四 五"),
        ("订单号：20261122001", "订单号，二 零 二 六 一 一 二 二 零 零 一"),
        ("验证码是4021", "验证码是 四 零 二 一"),
        ("12345678901234567890", " ".join("一二三四五六七八九零" * 2)),
        ("007号", "零 零 七 号"),
        ("1203室", "幺 二 零 三 室"),
        ("版本1.2.10", "版本 一点二点一 零"),
        # numbers that count
        ("3个", "三个"),
        ("2个", "两个"),
        ("2 个", "两 个"),
        ("第2个", "第二个"),
        ("2月2日2号楼2点", "二月二日二号楼两点"),
        ("12345人", "一万两千三百四十五人"),
        ("1,234", "一千二百三十四"),
        ("1，234", "一，二百三十四"),  # the Chinese comma is a pause
        ("-5", "负五"),
        ("3.14", "三点一四"),
        ("99", "九十九"),
        # dates and times
        ("2026年11月22日", "二零二六年十一月二十二日"),
        ("2026-11-22", "二零二六年十一月二十二日"),
        ("2026/1/2", "二零二六年一月二日"),
        ("2026-11", "二零二六年十一月"),
        ("26年3月", "二六年三月"),
        ("2年", "两年"),
        ("12:30", "十二点三十分"),
        ("12：05", "十二点零五分"),
        ("9:00-18:00", "九点到十八点"),
        ("2:00", "两点"),
        ("23:59:08", "二十三点五十九分零八秒"),
        # money
        ("¥128.50", "一百二十八元五角"),
        ("￥1,280.00", "一千二百八十元"),
        ("128.5元", "一百二十八元五角"),
        ("12.05元", "十二元零五分"),
        ("0.5元", "五角"),
        ("0.05元", "五分"),
        ("0元", "零元"),
        ("2元", "两元"),
        ("2.22元", "两元两角二分"),
        ("0.125元", "零点一二五元"),
        ("10000元", "一万元"),
        ("¥1.5万", "一点五万元"),
        ("-5元", "负五元"),
        ("$3.50", "三点五美元"),
        ("US$100", "一百美元"),
        ("HK$2", "两港元"),
        ("5-10元", "五到十元"),
        # the rest
        ("50%", "百分之五十"),
        ("100%", "百分之百"),
        ("-2.5%", "负百分之二点五"),
        ("5%-10%", "百分之五到百分之十"),
        ("3‰", "千分之三"),
        ("-3℃", "零下三摄氏度"),
        ("90°", "九十度"),
        ("1/2", "二分之一"),
        ("1½", "一 二分之一"),
        ("比分3:2", "比分三比二"),
        ("1-3天", "一到三天"),
        ("12-3456-78", "一 二，三 四 五 六，七 八"),
        ("7x24小时", "七乘二十四小时"),
        # keys
        ("按#键", "按井号键"),
        ("按*键", "按星号键"),
        ("按＃键或＊键", "按井号键或星号键"),
        ("按1键", "按一键"),
        ("**重要**", "重要"),
        # dropped
        ("你好😀再见", "你好 再见"),
        ("👍🏽您好👨‍👩‍👧", "您好"),
        ("您\u200b好\ufeff", "您好"),
        ("“您好”《书》", "您好书"),
        ("1️⃣", "一"),
        ("１２３", "一百二十三"),
        ("٣个", "三个"),
        # pauses
        ("您好,请稍候!再见?", "您好，请稍候。再见？"),
        ("第一行\r\n第二行", "第一行。第二行"),
        ("请稍候……谢谢", "请稍候，谢谢"),
    ],
)
def test_chinese(written: str, said: str) -> None:
    assert zh(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Press 1 to answer.", "Press 1 to answer."),
        ("Don’t hang up", "Don't hang up"),
        ("Call 13800138000 now", "Call 1 3 8, 0 0 1 3, 8 0 0 0 now"),
        ("Call 400-136-0123", "Call 4 0 0, 1 3 6, 0 1 2 3"),
        ("Call +8613800138000", "Call plus 8 6, 1 3 8, 0 0 1 3, 8 0 0 0"),
        ("Your code is 0421", "Your code is 0 4 2 1"),
        ("order 12345", "order 1 2 3 4 5"),
        ("on 2026-11-22 at 12:30", "on November 22, 2026 at 12 30"),
        ("at 9:05 or 10:00", "at 9 oh 5 or 10 o'clock"),
        ("costs $1,280.50", "costs 1280.50 dollars"),
        ("costs ¥128.00", "costs 128 yuan"),
        ("saves 12.5%", "saves 12.5 percent"),
        ("it is -3℃", "it is minus 3 degrees"),
        ("wait 3-5 minutes", "wait 3 to 5 minutes"),
        ("press # or *", "press hash or star"),
        ("see www.example.com", "see www dot example dot com"),
        ("mail help@example.com.cn", "mail help at example dot com dot cn"),
    ],
)
def test_english(written: str, said: str) -> None:
    assert en(written) == said


def test_mixed_text_changes_language_where_the_letters_do() -> None:
    assert segments("您好，press 1 to answer，或按2。") == [
        Segment(ZH, "您好，"),
        Segment(EN, "press 1 to answer,"),
        Segment(ZH, "或按二。"),
    ]
    assert segments("按A键") == [Segment(ZH, "按"), Segment(EN, "A"), Segment(ZH, "键")]
    assert segments("VIP会员") == [Segment(EN, "V I P"), Segment(ZH, "会员")]
    assert segments("Windows 10系统") == [Segment(EN, "Windows"), Segment(ZH, "十系统")]
    assert segments("Your PIN is 1234. 密码是1234") == [
        Segment(EN, "Your PIN is 1 2 3 4."),
        Segment(ZH, "密码是 一 二 三 四"),
    ]


def test_all_of_a_whole_prompt_is_said() -> None:
    assert spoken("您的订单12345将于2026年11月22日12:30送达，金额¥128.50，详询400-136-0123，按#键结束。") == (
        "您的订单 一 二 三 四 五 将于二零二六年十一月二十二日十二点三十分送达，金额一百二十八元五角，"
        "详询 四 零 零，幺 三 六，零 幺 二 三，按井号键结束。"
    )


def test_the_main_language() -> None:
    assert [language_of(text) for text in ("您好 hello", "hello 1", "12345", "", "#")] == [ZH, EN, ZH, ZH, ZH]


@pytest.mark.parametrize("text", ["", "  \n", "😀", "。，！", "\x00\x07", "\ud800", "----", "“”"])
def test_nothing_to_say(text: str) -> None:
    assert segments(text) == []


def in_order(wanted: list[str], text: str) -> bool:
    rest = iter(text)
    return all(char in rest for char in wanted)


@given(ANYTHING)
@example("℃½ﷺ㈱\U000e0041\ud83d")
@example("0" * 30 + "元")
@example("1:1:1:1/1/1-1-1.1.1.1,1,111")
def test_any_text_becomes_clean_words(text: str) -> None:
    found = segments(text)
    assert all(one.language is not following.language for one, following in pairwise(found))
    for one in found:
        assert one.text
        assert one.text == one.text.strip()
        if one.language is ZH:
            assert re.fullmatch(f"(?:[{HAN}]|[ ，。？])+", one.text)
        else:
            assert not ONE_HAN.search(one.text)
            assert not any(unicodedata.category(char)[0] in "CSM" for char in one.text)
    "".join(one.text for one in found).encode()  # no surrogates


@given(
    st.text(
        st.characters(exclude_categories=("Nd", "Nl", "No", "So", "Sc", "M")).filter(lambda c: c not in "xX×")
    )
)
def test_no_letter_and_no_chinese_character_is_lost(text: str) -> None:
    plain = unicodedata.normalize("NFKC", text)
    if any(unicodedata.category(char) in ("So", "Sc", "Nd", "No") or char in "xX" for char in plain):
        return  # °C and its like are one thing, said in other words
    wanted = [char for char in plain if char.isalpha()]
    assert in_order(wanted, spoken(text))


@given(st.text("0123456789.,:-/%‰¥$€元年月日号点°C+*#()~– x万", max_size=25))
def test_every_number_is_read_in_both_languages(text: str) -> None:
    from huibo.prompts import chinese, english

    for token in tokens(text):
        if any(char.isdigit() for char in token.text):
            for read in (chinese.read, english.read):
                said = read(token)
                assert said.strip()
            assert not any(char.isdigit() for char in chinese.read(token))


@given(ANYTHING)
def test_the_pieces_are_the_whole_text(text: str) -> None:
    from huibo.prompts.tokens import tidy

    assert "".join(token.text for token in tokens(text)) == tidy(text)


# Texts that stand alone: whatever is put together from them, each is read as if it were alone.
PARTS = st.sampled_from(
    [
        ("您有2个订单", "您有两个订单"),
        ("请拨打13800138000", "请拨打 幺 三 八，零 零 幺 三，八 零 零 零"),
        ("2026-11-22", "二零二六年十一月二十二日"),
        ("12:30", "十二点三十分"),
        ("¥128.50", "一百二十八元五角"),
        ("50%", "百分之五十"),
        ("1,234", "一千二百三十四"),
        ("按#键", "按井号键"),
        ("98765", "九 八 七 六 五"),
        ("您好", "您好"),
    ]
)


@given(st.lists(PARTS, min_size=1, max_size=8))
def test_parts_are_read_alike_in_any_company(parts: list[tuple[str, str]]) -> None:
    written = "您好，" + "，".join(part for part, _ in parts)
    assert zh(written) == "您好，" + "，".join(said for _, said in parts)


@pytest.mark.parametrize(
    "piece",
    [
        "1",
        "1-",
        " ",
        "a.",
        "(0",
        "+1 ",
        "1,111",
        "12:",
        "a1，",
        "¥-",
        "1月-",
        "-.-:",
        "一1",
        "a 1",
        "$",
        "1/",
        "_ ",
    ],
)
def test_no_text_takes_long(piece: str) -> None:
    began = time.process_time()
    segments(piece * (50_000 // len(piece)))
    assert time.process_time() - began < 5
