"""The table of phones is the contract with integrators; the dialplan says all of it and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from huibo.sandbox import dialplan, phones
from huibo.sandbox.phones import Announce, Answer, Phone, Press, Refuse, Ring, Stay, Step
from huibo.sandbox.tones import tone_of

CONTRACT: dict[str, tuple[Step, ...]] = {
    "00": (Ring(1), Answer(), Stay()),
    "01": (Ring(1), Answer(), Stay(5)),
    "02": (Ring(1), Answer(), Stay(15)),
    "03": (Ring(5), Answer(), Stay()),
    "04": (Ring(None),),
    "05": (Refuse(486),),
    "06": (Ring(2), Refuse(603)),
    "07": (Refuse(404),),
    "08": (Announce(4), Refuse(480)),
    "09": (Refuse(503),),
    **{f"1{key}": (Ring(1), Answer(), Press(key, key), Stay()) for key in "0123456789"},
    "20": (Ring(1), Answer(), Press("*", "*"), Stay()),
    "21": (Ring(1), Answer(), Press("#", "#"), Stay()),
    "22": (Ring(1), Answer(), Press("A", "A"), Stay()),
    "23": (Ring(1), Answer(), Press("9", "1"), Stay()),
    "24": (Ring(1), Answer(silent=True), Stay()),
    "25": (Refuse(480),),
    "26": (Refuse(500),),
    "27": (Ring(2), Refuse(503)),
}


def test_the_phones_are_those_of_the_contract() -> None:
    assert {phone.digits: phone.steps for phone in phones.PHONES} == CONTRACT
    assert phones.ELSE.steps == (Refuse(404),)


def test_the_last_two_digits_choose_the_phone() -> None:
    assert phones.phone_of("13800138008").digits == "08"
    assert phones.phone_of("01088880023").digits == "23"
    for number in ("13800138099", "13800138028", "5", ""):
        assert phones.phone_of(number) is phones.ELSE


def test_every_phone_is_described_in_both_languages() -> None:
    rows = phones.describe()
    assert [digits for digits, _, _ in rows] == [*CONTRACT, ".."]
    for _, english, chinese in rows:
        assert english.isascii()
        assert any("一" <= char <= "鿿" for char in chinese)
    assert len({row.english for row in rows}) == len({row.chinese for row in rows}) == len(rows)


@pytest.mark.parametrize("row", phones.describe(), ids=lambda row: row.digits)
def test_what_is_said_of_a_phone_names_its_codes_and_times(row: phones.Row) -> None:
    for step in phones.phone_of(row.digits).steps:
        match step:
            case Refuse(int(named)) | Ring(int(named)) | Stay(int(named)) | Announce(named):
                if named != 1 or isinstance(step, Ring):
                    assert str(named) in row.english
                    assert str(named) in row.chinese


def test_keys_are_pressed_for_a_minute() -> None:
    last = phones.FIRST_PRESS_S + (phones.PRESSES - 1) * phones.PRESS_EVERY_S
    assert last < 60 <= last + phones.PRESS_EVERY_S


def test_a_phone_becomes_an_extension() -> None:
    phone = Phone("31", (Ring(2), Answer(), Press("5", "#"), Stay(7)), "does things", "做事")
    assert dialplan.phones([phone], phones.ELSE) == (
        "; does things\n"
        "exten => 31,1,Gosub(ring,s,1)\n"
        " same => n,Wait(2)\n"
        " same => n,Gosub(answer,s,1)\n"
        f" same => n,PlayTones({dialplan.TONE})\n"
        " same => n,Gosub(press,s,1(5,#))\n"
        " same => n,Wait(7)\n"
        " same => n,Goto(hang_up,s,1)\n"
        "\n"
        f"; {phones.ELSE.english}\n"
        "exten => i,1,Gosub(refuse,s,1(404))"
    )


def test_every_phone_has_one_extension() -> None:
    lines = dialplan.phones(phones.PHONES, phones.ELSE).splitlines()
    begun = [line.split(" => ")[1].split(",")[0] for line in lines if line.startswith("exten")]
    assert begun == [*CONTRACT, "i"]


def test_a_silent_phone_gets_no_tone() -> None:
    text = dialplan.phones([phone for phone in phones.PHONES if phone.digits == "24"], phones.ELSE)
    assert "PlayTones" not in text


def test_waiting_for_ever_outlasts_every_call() -> None:
    assert "Wait(31536000)" in dialplan.phones([Phone("04", (Ring(None),), "", "")], phones.ELSE)


@pytest.mark.parametrize("number", ["13800138000", "01088880000", "075512345600", "19999999999"])
def test_the_dialplan_and_the_analysis_have_the_same_tone(number: str) -> None:
    formula = dialplan.TONE.removeprefix("$[").removesuffix("]").replace("${NUMBER}", str(int(number)))
    assert eval(formula) == tone_of(number)


def test_the_documentation_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs/sandbox.md").read_text(encoding="utf-8")
    table = "\n".join(
        f"| {digits} | {english} | {chinese} |" for digits, english, chinese in phones.describe()
    )
    assert f"|---|---|---|\n{table}\n\n" in page
