"""Turns the table of phones into dialplan lines; etc/extensions.conf says what each step means.

Pure text. Decides nothing about what a phone does.
"""

from __future__ import annotations

from collections.abc import Iterable

from huibo.sandbox.phones import Announce, Answer, Phone, Press, Refuse, Ring, Stay, Step

# ITU-T E.180: 950, 1400 and 1800 Hz, 330 ms each, then 1 s of silence; over and over.
INFORMATION_TONE = "950/330,1400/330,1800/330,0/1000"

# The number's own tone, as `tones.tone_of` has it.
TONE = "$[400 + 10 * (${NUMBER} % 241)]"

_FOR_EVER_S = 86400 * 365


def phones(table: Iterable[Phone], otherwise: Phone) -> str:
    """The extensions of the context [phones]: one per phone, `i` for all other numbers."""
    rows = [(phone.digits, phone) for phone in table] + [("i", otherwise)]
    return "\n\n".join(_extension(name, phone) for name, phone in rows)


def _extension(name: str, phone: Phone) -> str:
    first, *rest = [line for step in phone.steps for line in _lines(step)]
    return "\n".join(
        [f"; {phone.english}", f"exten => {name},1,{first}", *(f" same => n,{line}" for line in rest)]
    )


def _lines(step: Step) -> list[str]:
    match step:
        case Ring(seconds):
            return ["Gosub(ring,s,1)", _wait(seconds)]
        case Announce(seconds):
            return ["Gosub(announce,s,1)", _wait(seconds), "StopPlayTones()"]
        case Answer(silent):
            return ["Gosub(answer,s,1)", *([] if silent else [f"PlayTones({TONE})"])]
        case Press(first, rest):
            return [f"Gosub(press,s,1({first},{rest}))"]
        case Stay(None):
            return [_wait(None)]
        case Stay(seconds):
            return [_wait(seconds), "Goto(hang_up,s,1)"]
        case Refuse(code):
            return [f"Gosub(refuse,s,1({code}))"]


def _wait(seconds: int | None) -> str:
    return f"Wait({_FOR_EVER_S if seconds is None else seconds})"
