"""The calls of test_sip_edges.py: what each far end does, what is told of it, and how the call ends.

Owns the table; `keys` fill the [names] of a scenario. What is the same for all calls is the tests' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

VICTIM = "13911112200"  # a phone of the sandbox, which no call here has anything to do with

TALK = ("invite", "ringing", "answered", "disaccept")
NO_180 = ("invite", "answered", "disaccept")
PROXY_ASKS = (
    ("ask", "407 Proxy Authentication Required"),
    ("header", "Proxy-Authenticate"),
    ("answer", "Proxy-Authorization"),
)
SMUGGLED = (("user", f"PJSIP/{VICTIM}%40trunk-sandbox"),)  # what Asterisk would call this channel
CARRIER_ASKS = (("ask", "401 Unauthorized"), ("header", "WWW-Authenticate"), ("answer", "Authorization"))


@dataclass(frozen=True)
class Edge:
    """A call: what the far ends of its legs do (sipp/edge_*.xml), what is told of each, its callEndStatus."""

    name: str
    caller: str
    callee: str
    src: tuple[str, ...]
    dst: tuple[str, ...]
    result: str
    keys: tuple[tuple[str, str], ...] = ()
    speaks: bool = False  # the callee's end sends audio, before and after its answer
    patient: bool = False  # our ring timer is longer than SIP's

    @property
    def numbers(self) -> tuple[str, str]:
        at = EDGES.index(self)
        return f"138{at:08d}", f"139{at:08d}"


def talks(
    name: str,
    caller: str = "phone",
    callee: str = "phone",
    *keys: tuple[str, str],
    src: tuple[str, ...] = TALK,
    dst: tuple[str, ...] = TALK,
    speaks: bool = False,
) -> Edge:
    return Edge(name, caller, callee, src, dst, "1", keys, speaks)


def caller_fails(
    name: str, script: str, *told: str, keys: tuple[tuple[str, str], ...] = (), patient: bool = False
) -> Edge:
    return Edge(name, script, "phone", told, (), "2" if "ringing" in told else "4", keys, patient=patient)


def callee_fails(
    name: str, script: str, *told: str, keys: tuple[tuple[str, str], ...] = (), caller: str = "phone"
) -> Edge:
    return Edge(name, caller, script, TALK, told, "3" if "ringing" in told else "5", keys)


def refusals() -> Iterator[Edge]:
    for status, told in {
        "408 Request Timeout": "failed 408",
        "410 Gone": "failed 410",
        "484 Address Incomplete": "failed 484",
        "488 Not Acceptable Here": "failed 488",
        "502 Bad Gateway": "failed 502",
        "504 Server Time-out": "failed 504",
        "600 Busy Everywhere": "refused 600",
        "407 Proxy Authentication Required": "failed 407",  # and asks for nothing we could answer
    }.items():
        keys = (("status", status),)
        yield caller_fails(f"caller-{status[:3]}", "final", "invite", told, keys=keys)
        if status[:3] in ("408", "488", "600"):
            yield callee_fails(f"callee-{status[:3]}", "final", "invite", told, keys=keys)


EDGES = [
    caller_fails("caller-silent", "silence", "invite", "failed 408"),
    callee_fails("callee-silent", "silence", "invite", "failed 408"),
    caller_fails("caller-silent-for-timer-b", "silence", "invite", "failed 408", patient=True),
    caller_fails("caller-rings-too-late", "late_ringing", "invite", "failed 408"),
    callee_fails("callee-rings-too-late", "late_ringing", "invite", "failed 408"),
    talks("caller-at-once", "at_once", src=NO_180),
    talks("callee-at-once", callee="at_once", dst=NO_180),
    talks("caller-other-media", "new_media", src=NO_180),
    talks("callee-other-media", callee="new_media", dst=NO_180, speaks=True),
    talks("caller-forked-media", "forked_media", src=NO_180),
    talks("callee-forked-media", callee="forked_media", dst=NO_180, speaks=True),
    talks("caller-media-in-180", "ringing_media"),
    talks("callee-media-in-180", callee="ringing_media", speaks=True),
    talks("callee-183-without-media", callee="progress_only"),
    talks("caller-100rel", "reliable", src=NO_180),
    talks("callee-100rel", callee="reliable", dst=NO_180),
    *refusals(),
    talks("caller-holds", "hold"),
    talks("callee-holds", callee="hold"),
    talks("caller-refers", "refer"),
    talks("callee-refers", callee="refer"),
    talks("callee-bye-q850-17", "phone", "bye", ("reason", "Q.850;cause=17")),
    talks("callee-bye-sip-503", "phone", "bye", ("reason", 'SIP;cause=503;text="bye"')),
    talks("caller-bye-q850-44", "bye", "phone", ("reason", "Q.850;cause=44")),
    talks("callee-bye-q850-44", "phone", "bye", ("reason", "Q.850;cause=44")),
    talks("caller-bye-crosses", "bye_crossing", "bye"),
    talks("callee-bye-crosses", "bye", "bye_crossing"),
    caller_fails("caller-answer-crosses", "cancel_crossing", "invite", "ringing", "failed 408"),
    callee_fails("callee-answer-crosses", "cancel_crossing", "invite", "ringing", "failed 408"),
    callee_fails(
        "callee-answer-crosses-release", "cancel_crossing", "invite", "ringing", "failed 487", caller="bye"
    ),
    caller_fails("caller-302", "redirect", "invite", "failed 302"),
    callee_fails("callee-302", "redirect", "invite", "failed 302"),
    caller_fails("caller-302-to-our-trunk", "redirect", "invite", "failed 302", keys=SMUGGLED),
    callee_fails("callee-302-to-our-trunk", "redirect", "invite", "failed 302", keys=SMUGGLED),
    talks("caller-digest-407", "digest", "phone", *PROXY_ASKS),
    talks("callee-digest-407", "phone", "digest", *PROXY_ASKS),
    talks("callee-digest-401", "phone", "digest", *CARRIER_ASKS),
    caller_fails("caller-digest-refused", "digest_refused", "invite", "failed 407", keys=PROXY_ASKS),
    callee_fails("callee-digest-refused", "digest_refused", "invite", "failed 407", keys=PROXY_ASKS),
]
BY_NAME = {edge.name: edge for edge in EDGES}
