"""The error table: why a request is refused, and what a leg's SIP result means.

Adding an error is adding a row here. Nothing else decides codes; texts that go out on the wire are short,
lower-case English and name the field at fault.
"""

from __future__ import annotations

from enum import Enum

from huibo.model import EndReason, Moment


class Refusal(Enum):
    """Why a request was refused: the code on the wire and the default text."""

    VERSION = ("-1", "version not supported")
    PARAMETER = ("-2", "parameter invalid")
    NO_LINE = ("-3", "no line available")
    NO_HOST = ("-5", "host header missing")
    NUMBER = ("-101", "number invalid")
    DISPLAY_NUMBER = ("-102", "display number invalid")
    URL = ("-103", "url invalid")
    BIZ_ID = ("-104", "bizId invalid")
    BALANCE = ("-105", "balance exhausted")
    BLACKLIST = ("-110", "number on the blacklist")
    NO_CALL = ("-201", "callId not exist")
    PERIOD = ("-202", "timestamps invalid")
    APP = ("-401", "appId invalid")
    URL_ID = ("-402", "url does not match appId")
    ADDRESS = ("-403", "ip not allowed")
    BLOCKED = ("-423", "blocked")
    UNAVAILABLE = ("-501", "server disabled")

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        self.text = text


class Refused(Exception):
    """A request that is answered with a code; nothing was written and nothing will be dialled.

    `message` is what the caller reads; without it the table's text is used. `rule`: the check that refused.
    """

    rule: str = ""

    def __init__(self, refusal: Refusal, message: str | None = None) -> None:
        self.refusal = refusal
        self.message = message or refusal.text
        super().__init__(f"{refusal.code} {self.message}")


class EngineError(Exception):
    """The engine refused or could not be reached: what was asked did certainly not happen."""


class PromptError(Exception):
    """A text could not be made into sound. The message is one line: which voice, and why."""


class OutcomeUnknown(EngineError):
    """The engine was asked and did not answer: it may or may not have happened, so never ask again."""


_ENDING: dict[int, EndReason] = {
    403: EndReason.FORBIDDEN,
    404: EndReason.NOT_FOUND,
    408: EndReason.NO_RESPONSE,
    410: EndReason.NOT_FOUND,
    480: EndReason.UNAVAILABLE,
    484: EndReason.NOT_FOUND,
    486: EndReason.BUSY,
    487: EndReason.CANCELLED,
    600: EndReason.BUSY,
    603: EndReason.DECLINED,
    604: EndReason.NOT_FOUND,
    607: EndReason.DECLINED,  # RFC 8197: unwanted
    608: EndReason.DECLINED,  # RFC 8688: rejected
}

_REFUSING = frozenset({EndReason.BUSY, EndReason.DECLINED})

# What a carrier answers before the phone can have rung, where another line may do better.
_TRY_ANOTHER_LINE = frozenset({408, 480, 500, 502, 503, 504})


def proves_silence(sip_code: int | None) -> bool:
    """Whether a final response, without a 18x before it, proves that the phone did not ring."""
    return sip_code in _TRY_ANOTHER_LINE


def ending_of(sip_code: int | None, rang: bool) -> EndReason:
    """Why a leg that was never answered ended by itself, from its final SIP response (RFC 3261, 21).

    `rang`: a 180 had come before, which turns "not reachable" and "timed out" into "did not answer".
    """
    if sip_code is None:
        return EndReason.LOST
    reason = _ENDING.get(sip_code, EndReason.CARRIER_FAULT)
    if rang and reason in (EndReason.UNAVAILABLE, EndReason.NO_RESPONSE):
        return EndReason.NO_ANSWER
    return reason


def moment_of(reason: EndReason, answered: bool) -> Moment:
    """What is reported at the end of a leg."""
    if answered:
        return Moment.HUNG_UP
    return Moment.REFUSED if reason in _REFUSING else Moment.FAILED
