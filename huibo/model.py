"""The words of the domain: legs, requests, calls, call detail records.

Owns plain immutable data that every folder shares. Does no I/O, reads no clock, and knows neither the
words of the wire nor those of Asterisk.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Leg(StrEnum):
    """One of the two telephone connections of a call. The value is the suffix of its channel id."""

    CALLER = "a"
    CALLEE = "b"

    @property
    def other(self) -> Leg:
        return Leg.CALLEE if self is Leg.CALLER else Leg.CALLER


class Moment(StrEnum):
    """What can be reported of a leg, in the order in which it can happen."""

    INVITED = "invited"  # the INVITE is on the wire
    RINGING = "ringing"  # 180
    ANSWERED = "answered"  # 200
    REFUSED = "refused"  # a person or a busy line said no
    HUNG_UP = "hung_up"  # the normal end of an answered leg, whoever ended it
    FAILED = "failed"  # every other end of a leg that was never answered


class EndReason(StrEnum):
    """Why a leg ended. `huibo.errors` maps SIP results to these."""

    HUNG_UP = "hung_up"  # the far end hung up after answer
    RELEASED = "released"  # we hung up because the other leg ended
    MAX_DURATION = "max_duration"  # the agreed talk time was over
    NO_AUDIO = "no_audio"  # no media arrived for too long
    BUSY = "busy"
    DECLINED = "declined"
    NO_ANSWER = "no_answer"  # it rang, or should have, until a timer ended it
    CANCELLED = "cancelled"  # we gave up on it because the other leg was gone
    UNAVAILABLE = "unavailable"  # switched off, not registered, out of reach
    NOT_FOUND = "not_found"  # no such number
    FORBIDDEN = "forbidden"  # the carrier does not allow this call
    CARRIER_FAULT = "carrier_fault"  # 5xx and their like
    NO_RESPONSE = "no_response"  # the carrier never answered the INVITE
    TRUNK_DOWN = "trunk_down"  # the INVITE could not be sent
    EXPIRED = "expired"  # not dialled in time, so not dialled at all
    LOST = "lost"  # the engine lost the leg, its end was not seen


class CallResult(StrEnum):
    """What became of a call as a whole."""

    UNKNOWN = "unknown"  # the platform failed
    TALKED = "talked"  # both legs were answered
    CALLER_NO_ANSWER = "caller_no_answer"  # the caller's phone rang
    CALLER_UNREACHED = "caller_unreached"  # the caller's phone never rang
    CALLEE_NO_ANSWER = "callee_no_answer"  # the caller answered, the callee did not
    CALLEE_UNREACHED = "callee_unreached"  # the caller answered, the callee's phone never rang


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A callback request in our own words: well formed, not yet admitted.

    Numbers are E.164 with the plus sign; display numbers are national digits as the operator stores them,
    None where the platform is to choose.
    """

    app_id: str
    url_id: str
    remote_ip: str
    caller: str
    callee: str
    request_id: str = ""
    caller_display: str | None = None  # shown on the caller's phone
    callee_display: str | None = None  # shown on the callee's phone
    max_talk_s: int | None = None  # None: the configured default
    status_mask: int = 0  # which moments to push; only wire/ can read it
    status_url: str | None = None  # None: the app's default
    cdr_url: str | None = None
    biz_id: str = ""
    order_id: str = ""


@dataclass(frozen=True, slots=True)
class Trunk:
    """A SIP line towards a carrier. `name` is its key, `host:port` where INVITEs go over UDP."""

    name: str
    host: str
    port: int = 5060
    codecs: str = "alaw,ulaw"  # comma list, most wanted first
    username: str | None = None  # digest authentication, when the carrier asks for it
    password: str | None = None
    priority: int = 0  # lower is tried first
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class App:
    """A customer's application: who may call and where its pushes go by default."""

    app_id: str
    url_id: str  # the `id` of its request URLs
    name: str = ""
    allowed_ips: tuple[str, ...] = ("127.0.0.0/8", "::1/128")  # addresses and networks
    status_url: str | None = None
    cdr_url: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """An accepted call: all that is decided at admission and never changes afterwards. Times are in ms."""

    call_id: str
    app_id: str
    request_id: str
    caller: str
    callee: str
    caller_display: str
    callee_display: str
    trunk: Trunk
    max_talk_s: int
    accepted_at: int
    status_mask: int = 0
    status_url: str | None = None
    cdr_url: str | None = None
    biz_id: str = ""
    order_id: str = ""


@dataclass(frozen=True, slots=True)
class LegRecord:
    """What happened on one leg. Times are UNIX milliseconds, None for what did not happen."""

    invited_at: int | None = None
    ringing_at: int | None = None
    answered_at: int | None = None
    ended_at: int | None = None
    reason: EndReason | None = None
    sip_code: int | None = None


@dataclass(frozen=True, slots=True)
class Cdr:
    """The call detail record: one per accepted call, written once."""

    call_id: str
    caller: LegRecord
    callee: LegRecord
    ended_at: int
    result: CallResult
    talk_s: int  # both answered until the end, whole seconds, rounded up
    billed_s: int  # the mean of the legs' answered seconds, rounded up; 0 without a conversation


@dataclass(frozen=True, slots=True)
class Report:
    """One moment of one leg, to be told to the customer. `at` is UNIX milliseconds."""

    leg: Leg
    moment: Moment
    at: int
    sip_code: int | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """One HTTP message owed to a customer. `kind` is `status` or `cdr`; `seq` orders those of one call."""

    call_id: str
    app_id: str
    kind: str
    seq: int
    url: str
    body: bytes
