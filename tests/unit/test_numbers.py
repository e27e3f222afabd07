"""Chinese numbers: which are valid, and that every form leads back to the one it came from."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from huibo.model import NumberFormat
from huibo.numbers import mask, national, parse_callee, parse_caller, shown, written

MOBILE_PREFIXES = [
    *range(130, 140),
    *(145, 147, 150, 151, 152, 153, 155, 156, 157, 158, 159),
    *(162, 165, 166, 167, 170, 171, 172, 173, 175, 176, 177, 178),
    *range(180, 194),
    *range(195, 200),
]
LANDLINES = {
    "01088880000": "+861088880000",
    "02131264133": "+862131264133",
    "02025863344": "+862025863344",
    "075586013388": "+8675586013388",
    "089868561234": "+8689868561234",
    "03165212345": "+863165212345",  # an area with 7-digit numbers
}


@pytest.mark.parametrize("prefix", MOBILE_PREFIXES)
def test_a_mobile_number_may_call_and_be_called(prefix: int) -> None:
    digits = f"{prefix}12345678"
    assert parse_caller(digits) == parse_callee(digits) == f"+86{digits}"
    assert national(f"+86{digits}") == digits


@pytest.mark.parametrize(("digits", "e164"), LANDLINES.items())
def test_a_landline_may_be_called_and_may_not_call(digits: str, e164: str) -> None:
    assert parse_callee(digits) == e164
    assert parse_caller(digits) is None
    assert national(e164) == digits


@pytest.mark.parametrize("number", range(28))
def test_the_sandbox_has_a_mobile_and_a_landline_number_for_each_behaviour(number: int) -> None:
    assert parse_caller(f"138001380{number:02d}") == f"+86138001380{number:02d}"
    assert parse_callee(f"0108888{number:04d}") == f"+86108888{number:04d}"


@pytest.mark.parametrize(
    "digits",
    [
        "",
        "1380013800",  # one digit short
        "138001380000",  # one too many
        "013800138000",  # trunk 0 before a mobile
        "+8613800138000",
        "008613800138000",
        "8613800138000",
        "12012345678",  # no such mobile prefix
        "1380013800a",
        "138 0013 8000",
        "１３８００１３８０００",  # full-width digits
        "١٣٨٠٠١٣٨٠٠٠",  # Arabic digits
        "75586013388",  # area code without trunk 0
        "1088880000",
        "86013388",  # no area code
        "4001360123",
        "04001360123",
        "8008101234",
        "110",
        "10086",
        "95555",
        "01012345678\n",
        "1790113800138000",  # carrier selection prefix
    ],
)
def test_what_is_no_phone_number_is_neither(digits: str) -> None:
    assert parse_caller(digits) is None
    assert parse_callee(digits) is None


@given(st.from_regex(r"1[3-9][0-9]{9}|0[1-9][0-9]{8,10}", fullmatch=True))
def test_a_number_that_is_taken_comes_back_as_it_was_written(digits: str) -> None:
    e164 = parse_callee(digits)
    if e164 is not None:
        assert national(e164) == digits
        assert e164 == "+86" + digits.removeprefix("0")
    assert parse_caller(digits) in (None, e164)


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    assert parse_caller(text) in (None, "+86" + text)
    parse_callee(text)
    assert len(mask(text)) <= max(len(text), 20)


def as_the_library_judges(digits: str) -> tuple[int, str, str] | None:
    """The library's type of a number, its E.164 and its national digits."""
    try:
        number = phonenumbers.parse(f"+86{digits}")
    except phonenumbers.NumberParseException:
        return None
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    return phonenumbers.number_type(number), e164, "".join(filter(str.isdigit, written))


def agree(digits: str) -> None:
    judged = as_the_library_judges(digits)
    kind, e164, back = judged or (None, "", "")
    mobile = kind == phonenumbers.PhoneNumberType.MOBILE
    landline = kind == phonenumbers.PhoneNumberType.FIXED_LINE
    assert parse_caller(digits) == (e164 if mobile and back == digits else None)
    assert parse_callee(digits) == (e164 if (mobile or landline) and back == digits else None)
    if judged is not None:
        assert national(f"+86{digits}") == back


@given(
    st.one_of(
        st.from_regex(r"0?1[0-9]{10}", fullmatch=True),
        st.from_regex(r"0?(10|2[0-9]|[3-9][0-9]{2})[0-9]{5,8}", fullmatch=True),
        st.from_regex(r"(1[12][0-9]{3}|179[0-9]{2})0?1[3-9][0-9]{9}", fullmatch=True),  # carrier selection
        st.from_regex(r"0?(400|800|10800|21800|95|96|16[08])[0-9]{3,8}", fullmatch=True),
        st.from_regex(r"[0-9]{7,12}", fullmatch=True),
    )
)
@example("16101234567")
@example("17405123456")
@example("17406123456")
@example("01012345")
@example("075595588")
def test_the_library_is_the_judge_of_every_number(digits: str) -> None:
    agree(digits)


def test_the_library_is_the_judge_of_every_beginning_of_a_mobile_number() -> None:
    for beginning in range(10000, 20000, 7):
        agree(f"{beginning}123456")


def test_national_refuses_what_is_not_e164() -> None:
    with pytest.raises(ValueError, match=r"not an E\.164 number"):
        national("13800138000")


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+8613800138000", "138******00"),
        ("13800138000", "138******00"),
        ("+861088880000", "010******00"),
        ("+8675586013388", "075*******88"),
        ("4001360123", "400*****23"),
        ("10086", "*****"),
        ("", ""),
        ("+", "*"),
    ],
)
def test_a_masked_number_shows_three_and_two_digits(number: str, masked: str) -> None:
    assert mask(number) == masked


# --- as carriers want them ------------------------------------------------------------------------

FORMS = {
    NumberFormat.NATIONAL: ("01088880000", "075586013388", "13800138000"),
    NumberFormat.BARE: ("1088880000", "75586013388", "13800138000"),
    NumberFormat.E164: ("+861088880000", "+8675586013388", "+8613800138000"),
    NumberFormat.PLAIN: ("861088880000", "8675586013388", "8613800138000"),
    NumberFormat.DOUBLE_ZERO: ("00861088880000", "008675586013388", "008613800138000"),
}


def test_every_form_is_known() -> None:
    assert FORMS.keys() == set(NumberFormat)


@pytest.mark.parametrize(("form", "expected"), FORMS.items())
def test_a_number_is_written_as_a_carrier_wants_it(form: NumberFormat, expected: tuple[str, ...]) -> None:
    numbers = ("+861088880000", "+8675586013388", "+8613800138000")
    assert tuple(written(number, form) for number in numbers) == expected
    assert tuple(shown(national(number), form) for number in numbers) == expected


@pytest.mark.parametrize("form", NumberFormat)
@pytest.mark.parametrize(
    "number",
    [
        "95588",
        "10086",
        "12345",
        "4001360123",
        "8008208820",
        "110",
        "01095588",
        "106550001234",
        "anonymous",
        "",
    ],
)
def test_what_is_no_subscribers_number_is_shown_as_it_is(number: str, form: NumberFormat) -> None:
    assert shown(number, form) == number


@given(
    st.one_of(
        st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True),
        st.from_regex(r"0(10|2[0-9])[2-8][0-9]{7}", fullmatch=True),
        st.from_regex(r"0[3-9][0-9]{2}[2-8][0-9]{6,7}", fullmatch=True),
    ),
    st.sampled_from(NumberFormat),
)
def test_a_number_is_shown_as_it_would_be_dialled(digits: str, form: NumberFormat) -> None:
    """Whatever the library knows as a telephone number; and two numbers are never shown as one."""
    e164 = parse_callee(digits)
    if e164 is not None:
        assert shown(digits, form) == written(e164, form)
    bare = digits.removeprefix("0")
    assert shown(digits, form).endswith(bare)
