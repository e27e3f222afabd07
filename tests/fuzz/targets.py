"""What is fuzzed: each target takes any bytes and raises only when there is something to repair."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from huibo.config import DEFAULTS, load
from huibo.engine.ari.channels import Translator, leg_of
from huibo.engine.events import (
    KeyPressed,
    LegAnswered,
    LegEarlyMedia,
    LegEnded,
    LegEvent,
    LegInvited,
    LegRinging,
    PlayEnded,
)
from huibo.errors import Refused
from huibo.flow.machine import deadlines
from huibo.flow.state import (
    Cancel,
    DialFailed,
    EngineGone,
    LineBusy,
    LineFree,
    PromptsFailed,
    PromptsReady,
    Start,
    Tick,
)
from huibo.http.connections import Connections
from huibo.model import CancelUnless, EndReason, Leg, Prompts, RingSound
from huibo.rating import Budget, Rate
from huibo.wire import queries, tencent
from huibo.wire.body import Fields, decode
from huibo.wire.http11 import limited
from tests.fuzz.source import Source
from tests.unit.test_machine import MENU, PLAN, Interleavings, Story

_FIELDS = (
    *("appId", "requestId", "src", "dst", "srcDisplayNum", "dstDisplayNum", "record", "maxAllowTime"),
    *(
        "statusFlag",
        "statusUrl",
        "hangupUrl",
        "recordUrl",
        "bizId",
        "orderId",
        "lastCallId",
        "ringRecognition",
    ),
    *("preCallerHandle", "callId", "cancelFlag", "startTimeStamp", "endTimeStamp", "compress", "offset"),
    *("readPrompt", "interruptPrompt", "keyList", "key", "operate", "repeatTimes", "promptGender", "keyUrl"),
)
_URLS = ("http://192.0.2.1/", "https://[::1]:8/x", "http://a.b:99999", "http://x@y/", "//", "http://号.cn/")


def wire(data: bytes) -> None:
    """A body, of any bytes or of the API's own fields: it is taken, or refused with a reason."""
    source = Source(data)
    if source.below(3):
        asked = source.members(_FIELDS)
        if source.below(2):
            asked |= {"appId": "a", "src": "008613800138000", "dst": "008613900139001"}
        if source.below(2):
            asked[source.one_of(_FIELDS)] = source.one_of(_URLS)
        body = json.dumps(asked, ensure_ascii=bool(source.below(2))).encode("utf-8", "surrogatepass")
    else:
        body = source.rest()
    try:
        fields = decode(body)
    except Refused as refused:
        _fit_to_send(refused)
        return
    readers: tuple[Callable[[Fields], object], ...] = (
        lambda f: tencent.parse_callback(f, url_id="i", remote_ip="192.0.2.1", max_talk_min=1440),
        *(tencent.app_id_of, queries.parse_call_id, queries.parse_cancel, queries.parse_period),
    )
    for read in readers:
        try:
            read(fields)
        except Refused as refused:
            _fit_to_send(refused)
    json.loads(tencent.accepted("c", tencent.request_id_of(fields), "1", "2"))


def _fit_to_send(refused: Refused) -> None:
    assert refused.message.isprintable()
    assert len(refused.message) < 200
    for refuse in (tencent.refused, queries.refused, queries.refused_records):
        assert json.loads(refuse(refused, ""))["errorCode"] == refused.refusal.code


_KINDS = (
    *("Dial", "ChannelStateChange", "ChannelDestroyed", "ChannelHangupRequest", "ChannelDtmfReceived"),
    *("PlaybackFinished", "StasisStart", "StasisEnd", "ChannelCreated", "Unknown"),
)
_IDS = (
    *("c-a", "c-b", "c-a-1", "c-a-ringback", "c-c", "a", "", "-a", "1763817738.1", "c-a-٣", "c-b-2"),
    *("c-b.2", "c-a.٣"),
)
_MEMBERS = (
    "type",
    "channel",
    "peer",
    "playback",
    "id",
    "state",
    "dialstatus",
    "digit",
    "cause",
    "tech_cause",
    "soft",
)


def ari(data: bytes) -> None:
    """Asterisk's events with any values are understood; of others, only what they lack is complained of."""
    source, translator = Source(data), Translator()
    while source:
        whole = bool(source.below(4))
        event: Any = _event(source) if whole else source.value(_MEMBERS)
        if not isinstance(event, dict):
            continue
        wrong = (KeyError, TypeError, AttributeError, ValueError)
        made: list[LegEvent] = []
        with suppress(*(() if whole else wrong)):
            made = translator.take(event, 1)
        for one in made:
            assert isinstance(one, LegEvent)
            assert isinstance(one.leg, Leg)
        if source.below(8) == 0:
            translator.ignore(source.one_of(_IDS))


def _event(source: Source) -> dict[str, Any]:
    """An event with all its parts, as Asterisk sends it."""
    state = source.one_of(("Down", "Ring", "Ringing", "Up", "Busy", source.text()))
    channel = {"id": source.one_of((*_IDS, source.text())), "state": state}
    event: dict[str, Any] = {"type": source.one_of(_KINDS), "channel": channel, "peer": channel}
    event["playback"] = {"id": channel["id"], "state": source.one_of(("done", "failed", "playing"))}
    event["digit"] = source.one_of(tuple("0123456789ABCDabcd*#"))
    event["dialstatus"] = source.one_of(("", "PROGRESS", "RINGING", "ANSWER", "BUSY", source.text()))
    for name in ("cause", "tech_cause", "soft"):
        if source.below(2):
            event[name] = source.one_of((0, 16, 44, 486, 603, True))
    assert leg_of("c-a") == ("c", Leg.CALLER)
    return event


_SIP = (None, 404, 408, 480, 486, 487, 503, 603, 699)
_ROUTES = (("t",), ("t", "u"), ("u", "t", "v"))


def machine(data: bytes) -> None:
    """Any events in any order: what must hold of every call holds, and the call can be brought to its end."""
    source = Source(data)
    price = Rate("", per_minute=100)
    plan = replace(
        PLAN,
        menu=source.one_of((None, MENU, replace(MENU, repeats=0))),
        ring_sound=source.one_of(tuple(RingSound)),
        warn=source.one_of(((), (Leg.CALLER,), (Leg.CALLER, Leg.CALLEE))),
        warn_s=60,
        paced=source.one_of(((), ("t",), ("t", "u", "v"))),
        caller_route=source.one_of(_ROUTES),
        callee_route=source.one_of(_ROUTES),
        budget=Budget(price, price, source.one_of((None, 200, 1000, 10**6))),
    )
    judge = object.__new__(Interleavings)
    judge.story = story = Story(plan)
    story.start()
    for _ in range(60):
        if not source:
            break
        _happens(source, story)
    for leg in Leg:  # whoever waits for a line gets an answer
        for _ in range(len(plan.route(leg))):
            if not story.state.over and (trunk := story.state.trunk(leg)) and story.state.leg(leg).waiting:
                story.take(LineBusy(leg, trunk, story.now))
    for name in _invariants():
        getattr(judge, name)()
    judge.teardown()


def _happens(source: Source, story: Story) -> None:
    leg, now = source.one_of(tuple(Leg)), story.now
    match source.below(13):
        case 0:
            story.start()
        case 1 | 2 | 3:
            story.leg(source.one_of((LegInvited, LegRinging, LegEarlyMedia, LegAnswered)), leg)
        case 4:
            why = source.one_of((None, None, EndReason.NO_AUDIO, EndReason.LOST))
            story.leg(LegEnded, leg, sip_code=source.one_of(_SIP), why=why)
        case 5 if story.state.plan.menu is not None:
            files = source.one_of(((None, None), ("/n", None), (None, "/p"), ("/n", "/p")))
            failed = source.below(4) == 0
            story.take(PromptsFailed(now) if failed else PromptsReady(now, Prompts(*files, 1.5, 2.5)))
        case 6:
            story.leg(PlayEnded, leg, turn=source.below(6), failed=bool(source.below(2)))
        case 7:
            story.leg(KeyPressed, leg, key=source.one_of("1239#"))
        case 8:
            story.take(Cancel(now, source.one_of(tuple(CancelUnless))))
        case 9:
            story.take(DialFailed(leg, now))
        case 10:
            story.take(source.one_of((LineFree, LineBusy))(leg, source.one_of("tuv"), now))
        case 11 if due := deadlines(story.state):
            story.now = max(now, min(due))
            story.take(Tick(story.now))
        case 12 if source.below(8) == 0:
            story.take(source.one_of((EngineGone, Start))(now))
        case _:
            story.after(source.below(70_000)).take(Tick(story.now))


def _invariants() -> list[str]:
    return [
        name
        for name in vars(Interleavings)
        if hasattr(vars(Interleavings)[name], "hypothesis_stateful_invariant")
    ]


_HTTP = load(DEFAULTS).http
_CONNECTIONS = Connections(_HTTP)


async def _nobody(_scope: object, _receive: object, _send: object) -> None: ...


_CONFIG = uvicorn.Config(app=_nobody, http=limited(_CONNECTIONS), ws="none", log_config=None)
_CONFIG.load()
_PIECES = (
    *(
        b"GET / HTTP/1.1\r\n",
        b"POST /201511v3/callBack?id=x HTTP/1.1\r\n",
        b"Host: h\r\n",
        b"\r\n",
        b"0\r\n\r\n",
    ),
    *(
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n",
        b"abc",
        b"X: ",
        b"\r",
        b"\n",
    ),
    *(
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b":",
    ),
    *(b"GET http://h/x%00%ff?a HTTP/1.0\r\n", b"CONNECT h:1 HTTP/1.1\r\n", b"a" * 5000, b"A: b\r\n" * 90),
)


def http(data: bytes) -> None:
    """What a client sends, in any pieces: no error leaves the parser, and what is kept of it is bounded."""
    source, loop, line = Source(data), _Loop(), _Line()
    protocol = limited(_CONNECTIONS)(_CONFIG, ServerState(), {}, loop)  # type: ignore[arg-type]
    protocol.connection_made(line)  # type: ignore[arg-type]
    while source and not line.closed:
        size = source.below(40)
        piece = source.one_of(_PIECES) if size < 30 else bytes(source.below(256) for _ in range(size - 30))
        protocol.data_received(piece)
        assert len(protocol.pipeline) <= 64
        assert len(protocol.headers or ()) <= _HTTP.max_headers
        assert sum(len(n) + len(v) for n, v in protocol.headers or ()) <= _HTTP.max_head_bytes
        if source.below(4) == 0 and protocol.cycle is not None and not protocol.cycle.response_complete:
            protocol.cycle.response_complete = True
            protocol.on_response_complete()
    protocol.connection_lost(None)
    assert len(_CONNECTIONS) == 0
    assert not loop.timers, "a timer outlives its connection"


class _Loop:
    """Keeps timers and runs nothing: here it is the parser's turn alone."""

    def __init__(self) -> None:
        self.timers: set[_Timer] = set()

    def call_later(self, _seconds: float, _what: Callable[[], None]) -> _Timer:
        return _Timer(self.timers)

    def create_task(self, coroutine: Any) -> Any:
        coroutine.close()
        return _Timer(set())


class _Timer:
    def __init__(self, among: set[_Timer]) -> None:
        self._among = among
        among.add(self)

    def cancel(self) -> None:
        self._among.discard(self)

    def add_done_callback(self, _callback: object) -> None:
        pass


class _Line:
    """A transport without a network."""

    def __init__(self) -> None:
        self.closed = False

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 1) if name in ("peername", "sockname") else None

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        assert data.startswith(b"HTTP/1.1 ")

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


TARGETS: dict[str, Callable[[bytes], None]] = {"wire": wire, "ari": ari, "machine": machine, "http": http}
