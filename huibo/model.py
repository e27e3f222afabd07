"""The words of the domain: legs, requests, calls, call detail records.

Owns plain immutable data that every folder shares. Does no I/O, reads no clock, and knows neither the
words of the wire nor those of Asterisk.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import Field


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
    NO_CREDIT = "no_credit"  # what was held for the call is used up
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
    WITHDRAWN = "withdrawn"  # the customer cancelled the call
    MENU = "menu"  # the caller's keys, or the want of them, ended the menu
    PROMPT_FAILED = "prompt_failed"  # the prompts could not be made, so nobody was dialled
    LOST = "lost"  # the engine lost the leg, its end was not seen


class CallResult(StrEnum):
    """What became of a call as a whole."""

    UNKNOWN = "unknown"  # the platform failed
    TALKED = "talked"  # both legs were answered
    CALLER_NO_ANSWER = "caller_no_answer"  # the caller's phone rang
    CALLER_UNREACHED = "caller_unreached"  # the caller's phone never rang
    CALLEE_NO_ANSWER = "callee_no_answer"  # the caller answered, the callee did not
    CALLEE_UNREACHED = "callee_unreached"  # the caller answered, the callee's phone never rang


class Choice(StrEnum):
    """What a key does in a menu."""

    CONNECT = "connect"  # dial the callee
    REPLAY = "replay"  # play the prompt once more
    RELEASE = "release"  # end the call


@dataclass(frozen=True, slots=True)
class Menu:
    """What the caller hears and may press before the callee is dialled.

    `notice` is played first and takes no keys; `prompt` is cut off by a key. A key without a choice replays
    the prompt. After `repeats` replays the call is released. `key_url`: where keys are pushed, None: nowhere.
    """

    notice: str
    prompt: str
    choices: tuple[tuple[str, Choice], ...]
    repeats: int
    male: bool = False
    key_url: str | None = None

    def choice(self, key: str) -> Choice:
        return dict(self.choices).get(key, Choice.REPLAY)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The files of a menu, ready to be played: paths for the engine, and how long they are."""

    notice: str | None
    prompt: str | None
    notice_s: float = 0.0
    prompt_s: float = 0.0


class CancelUnless(StrEnum):
    """From which moment on a call is to be left alone by a cancel request."""

    NEVER = "never"
    CALLER_RINGING = "caller_ringing"
    CALLER_ANSWERED = "caller_answered"
    CALLEE_RINGING = "callee_ringing"
    CALLEE_ANSWERED = "callee_answered"


class RingSound(StrEnum):
    """What the caller hears while the callee is dialled."""

    ALL = "all"  # the network's own sounds, our ringing tone until they come
    NONE = "none"  # our ringing tone, whatever the network plays
    FAIL = "fail"  # our ringing tone; the network's announcements where they come in place of ringing


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The customer's own name for a request, and the SHA-256 of its body, in hex."""

    key: str
    digest: str


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
    record_url: str | None = None
    biz_id: str = ""
    order_id: str = ""
    record: bool = False
    menu: Menu | None = None
    last_call_id: str | None = None  # prefer another trunk than that call's
    recognise_ringing: bool = False
    by_operator: bool = False  # neither URL id nor address counts: who asks has shown a token


class Transport(StrEnum):
    """How SIP travels to a carrier."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class NumberFormat(StrEnum):
    """How a carrier wants a number written. Examples: a landline, a mobile."""

    NATIONAL = "national"  # 01088880000, 13800138000
    BARE = "bare"  # 1088880000, 13800138000: without the trunk 0
    E164 = "+86"  # +861088880000, +8613800138000
    PLAIN = "86"  # 861088880000, 8613800138000
    DOUBLE_ZERO = "0086"  # 00861088880000, 008613800138000


class TrunkState(StrEnum):
    """Whether a trunk takes calls."""

    ACTIVE = "active"
    DRAINING = "draining"  # keeps its calls and its registration, takes no new ones
    OFF = "off"  # Asterisk does not know it; what talks on it goes on


Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class Trunk:
    """A SIP line towards a carrier. `name` is its key, `host:port` where INVITEs go."""

    name: str
    host: str
    port: int = 5060
    codecs: str = "alaw,ulaw"  # comma list, most wanted first
    username: str | None = None  # digest authentication, when the carrier asks for it
    password: str | None = None
    priority: int = 0  # lower is tried first
    state: TrunkState = TrunkState.ACTIVE
    more_addresses: tuple[str, ...] = ()  # "host:port", in use while OPTIONS says that those before are down
    transport: Transport = Transport.UDP
    verify_tls: bool = True  # refuse a carrier whose certificate is not in order
    register: bool = False  # REGISTER with the carrier
    from_domain: str | None = None  # the host in From, where the carrier insists on one
    caller_format: NumberFormat = NumberFormat.NATIONAL  # of the number that the phone shows
    dial_format: NumberFormat = NumberFormat.NATIONAL  # of the number that is dialled
    dial_prefix: str = ""  # goes before it
    prefixes: tuple[str, ...] = ()  # the numbers it serves (`numbers.pattern`); none: all
    weight: Count = 1  # its share among those of equal priority and cost
    cost: Annotated[int, Field(ge=0)] = 0  # 1/1000 fen a minute; of equal priority the cheaper is tried first
    channels: Count | None = None  # legs at once
    calls_per_second: Count | None = None  # INVITEs in any second
    options_s: Annotated[int, Field(ge=0, le=3600)] = 30  # between two OPTIONS; 0: none are sent
    min_answered: Annotated[int, Field(ge=1, le=100)] | None = None  # percent; below it the trunk is locked
    direct_media: bool = False  # where both legs' trunks have it, the audio may go past the engine


@dataclass(frozen=True, slots=True)
class DisplayNumber:
    """A number that phones may show: national digits. `trunks`: those it may be shown on; none: all."""

    number: str
    area: str = ""  # for people
    enabled: bool = True
    trunks: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()


class DisplayMode(StrEnum):
    """Which number a phone shows when the request names none."""

    POOL = "pool"  # one of the app's own, by chance
    FIXED = "fixed"  # those that the app names
    MUTUAL = "mutual"  # each phone shows the other party's real number
    CALLEE = "callee"  # the callee's phone shows the caller's real number, the caller's one of the app's own


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What an app has otherwise than the configuration; None: as the configuration says."""

    display: DisplayMode = DisplayMode.POOL
    caller_ring_s: Annotated[int, Field(ge=1, le=600)] | None = None
    callee_ring_s: Annotated[int, Field(ge=1, le=600)] | None = None
    ring_sound: RingSound | None = None
    warn: tuple[Leg, ...] | None = None  # who hears the tone before the talk limit
    keep_days: Annotated[int, Field(ge=1, le=3650)] | None = None  # how long recordings are kept
    caller_number: str | None = None  # with FIXED: what the caller's phone shows
    callee_number: str | None = None  # and the callee's
    calls_per_second: Count | None = None  # accepted calls in any second
    calls_at_once: Count | None = None
    callee_per_hour: Count | None = None  # calls to one callee in any hour
    callee_per_day: Count | None = None  # and in any 24 hours
    hours: tuple[str, ...] = ()  # when calls may be placed, "mon-fri 09:00-21:00"; none: always
    timezone: str = "Asia/Shanghai"  # of these hours
    rate_plan: str | None = None  # whose rates its calls cost; None: they cost nothing
    prepaid: bool = False  # nothing is spent that is not there


class Usage(NamedTuple):
    """How much of its limits an app has used; a count is 0 where there is no limit to compare it with.

    `nth_last_at`: when the last call but (limit - 1) was accepted, UNIX ms; None: more than a second ago.
    """

    live: int = 0
    nth_last_at: int | None = None
    callee_hour: int = 0
    callee_day: int = 0


class AppState(StrEnum):
    """Whether an app may call."""

    ACTIVE = "active"
    BLOCKED = "blocked"  # by the operator


@dataclass(frozen=True, slots=True)
class App:
    """A customer's application: who may call and where its pushes go by default."""

    app_id: str
    url_id: str  # the `id` of its request URLs
    name: str = ""
    allowed_ips: tuple[str, ...] = ("127.0.0.0/8", "::1/128")  # addresses and networks
    status_url: str | None = None
    cdr_url: str | None = None
    record_url: str | None = None
    settings: AppSettings = AppSettings()
    state: AppState = AppState.ACTIVE


@dataclass(frozen=True, slots=True)
class Call:
    """An accepted call: all that is decided at admission. Times are in ms.

    Nothing of it ever changes but the trunks: read back, they are those that the legs went over at last.
    """

    call_id: str
    app_id: str
    request_id: str
    caller: str
    callee: str
    caller_display: str
    callee_display: str
    caller_trunk: str
    callee_trunk: str
    max_talk_s: int
    accepted_at: int
    status_mask: int = 0
    status_url: str | None = None
    cdr_url: str | None = None
    record_url: str | None = None
    biz_id: str = ""
    order_id: str = ""
    record: bool = False
    key_url: str | None = None
    recognise_ringing: bool = False
    cell: str = "main"  # the process that carries it


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try to dial a leg over a trunk that certainly rang no phone. `at`: UNIX ms of its end."""

    trunk: str
    at: int
    reason: EndReason
    sip_code: int | None = None


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
    charge: int = 0  # what the call costs, in 1/1000 fen


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A finished call as its customer may ask for it. `recording_url`: "" while there is none."""

    call: Call
    cdr: Cdr
    recording_url: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One moment of one leg, to be told to the customer. `at` is UNIX milliseconds."""

    leg: Leg
    moment: Moment
    at: int
    sip_code: int | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """One HTTP message owed to a customer. `seq` orders those of one call.

    `kind` is `status`, `key`, `cdr` or `recording`.
    """

    call_id: str
    app_id: str
    kind: str
    seq: int
    url: str
    body: bytes
