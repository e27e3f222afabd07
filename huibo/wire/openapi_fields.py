"""The fields of the callback API for its OpenAPI document: what each request, answer and push holds.

Pure data over the tables and bounds that the code itself goes by. Says nothing that those do not do.
"""

from __future__ import annotations

from typing import Any

from huibo.wire import fields, menu, pushes, queries, tencent

Schema = dict[str, Any]
_BLANK = "; empty or left out: "


def text(about: str, pattern: str | None = None, **more: Any) -> Schema:
    """A string, as all values are."""
    found: Schema = {"type": "string", "description": about} | more
    return found | ({"pattern": f"^(?:{pattern})$"} if pattern else {})


def _optional(about: str, otherwise: str, pattern: str | None = None, **more: Any) -> Schema:
    return text(about + _BLANK + otherwise, f"(?:{pattern})?" if pattern else None, **more)


def _one_of(about: str, *values: str, **more: Any) -> Schema:
    return text(about, enum=list(values), **more)


_MOBILE = "1[3-9][0-9]{9}"
_LANDLINE = "0[1-9][0-9]{6,10}"
_URL = "https?://[^\\s\\\\]+"
_SRC = text(
    f"The caller, who is rung first: {tencent.COUNTRY} and a mobile number",
    f"{tencent.COUNTRY}{_MOBILE}",
    examples=["008613800138000"],
)
_DST = text(
    f"The callee: {tencent.COUNTRY} and a mobile number, or a landline with its 0; not src",
    f"{tencent.COUNTRY}(?:{_MOBILE}|{_LANDLINE})",
    examples=["0086075586013388"],
)
_APP_ID = text("Who asks", minLength=1, maxLength=tencent.MAX_APP_ID, examples=["1400000001"])
_CALL_ID = text("From the answer to callBack", minLength=1, maxLength=tencent.MAX_CALL_ID)
_REQUEST_ID = f"At most {tencent.MAX_REQUEST_ID} bytes of UTF-8; comes back in the answer and in every push"


def _url(about: str, otherwise: str) -> Schema:
    return _optional(about, otherwise, _URL, maxLength=fields.MAX_URL_CHARS)


def _display(whose: str) -> Schema:
    about = f"What the {whose}'s phone shows, without {tencent.COUNTRY}; one of the app's numbers"
    return _optional(about, "as the app is set up", fields.DISPLAY_NUMBER.pattern, examples=["02131264133"])


_KEY_CHOICE: Schema = {
    "type": "object",
    "required": ["key", "operate"],
    "properties": {
        "key": _one_of("The key", *sorted(menu.KEYS)),
        "operate": _one_of(
            "1: dial the callee, 2: play interruptPrompt again, 3: release the caller", *menu.OPERATE
        ),
    },
}
MENU: Schema = {
    "type": "object",
    "description": "Prompts and keys before the callee is dialled: a prompt at least, and keyList",
    "properties": {
        "readPrompt": _optional(
            "Spoken to the caller after the answer", "nothing", maxLength=menu.MAX_PROMPT_CHARS
        ),
        "interruptPrompt": _optional(
            "Spoken next; keys cut it off", "nothing", maxLength=menu.MAX_PROMPT_CHARS
        ),
        "keyList": {
            "description": "What keys do; a single object is taken too",
            "oneOf": [{"type": "array", "items": _KEY_CHOICE}, _KEY_CHOICE],
        },
        "repeatTimes": _optional(
            f"How often interruptPrompt may be played again, 0 to {menu.MAX_REPEATS}",
            str(menu.DEFAULT_REPEATS),
            "[0-9]{1,2}",
        ),
        "promptGender": _one_of("1: female, 2: male" + _BLANK + "1", "", "1", "2"),
        "keyPressUrl": _url("Where keys are pushed", "nowhere"),
    },
}


def call_back(max_talk_min: int) -> dict[str, Schema]:
    """The fields of callBack, in the order of their checks."""
    return {
        "appId": _APP_ID,
        "requestId": _optional(_REQUEST_ID, "none", maxLength=tencent.MAX_REQUEST_ID),
        "src": _SRC,
        "dst": _DST,
        "srcDisplayNum": _display("caller"),
        "dstDisplayNum": _display("callee"),
        "maxAllowTime": _optional(
            f"Minutes from 1 to {max_talk_min}, counted from the callee's answer",
            "the default",
            "[0-9]{1,18}",
        ),
        "statusFlag": _optional(
            "Sum of bits: which moments are pushed to statusUrl. Caller: 1 invite, 2 ringing, 4 answered, "
            "8 refused, 16 disaccept, 32 failed; callee: the same times 256",
            "0",
            "[0-9]{1,18}",
        ),
        "statusUrl": _url("Where status pushes go", "the app's"),
        "hangupUrl": _url("Where the call detail record goes", "the app's"),
        "recordUrl": _url("Where the recording push goes", "the app's"),
        "bizId": _optional("Comes back in the call detail record", "none", fields.BIZ_ID.pattern),
        "orderId": _optional(
            f"At most {tencent.MAX_ORDER_ID} bytes of UTF-8; comes back in the call detail record",
            "none",
            maxLength=tencent.MAX_ORDER_ID,
        ),
        "record": _one_of("1: record the conversation" + _BLANK + "0", "", "0", "1"),
        "preCallerHandle": MENU,
        "lastCallId": _optional(
            "Prefer other lines than this call used", "no preference", maxLength=tencent.MAX_CALL_ID
        ),
        "ringRecognition": _optional("1: say in the recording push why nobody answered", "0"),
    }


CALL_CANCEL: dict[str, Schema] = {
    "appId": _APP_ID,
    "callId": _CALL_ID,
    "cancelFlag": _one_of(
        "Leave the call alone from then on: 1 the caller rings, 2 the caller answered, 3 the callee rings, "
        "4 the callee answered" + _BLANK + "0, never",
        *queries.CANCEL_UNLESS,
    ),
}
GET_STATUS: dict[str, Schema] = {"appId": _APP_ID, "callId": _CALL_ID}
GET_CDR: dict[str, Schema] = {
    "appId": _APP_ID,
    "callId": _optional("One call", "all of a period", maxLength=tencent.MAX_CALL_ID),
    "startTimeStamp": _optional("UNIX seconds, included", "needs callId", "[0-9]{1,11}"),
    "endTimeStamp": _optional("UNIX seconds, included", "needs callId", "[0-9]{1,11}"),
    "src": _optional(
        "Calls of this caller; 0: of everybody",
        "of everybody",
        f"0|{tencent.COUNTRY}(?:{_MOBILE}|{_LANDLINE})",
    ),
    "compress": _one_of("1: the answer as a zlib stream (RFC 1950)" + _BLANK + "0", "", "0", "1"),
}
GET_CALLER_DISPLAY_LIST: dict[str, Schema] = {"appId": _APP_ID}

# What answers and pushes hold: texts, most of them as the request had them.

_WRITTEN = text("As the request wrote it")
_NUMBER = text("As the request wrote it", f"{tencent.COUNTRY}[0-9]+")
_STAMP = text("UNIX seconds; 0: did not happen", "[0-9]+")
_TYPE = text("Telephone to telephone", const="3")
_OK = text("Done", const="0")

ACCEPTED: dict[str, Schema] = {
    "errorCode": _OK,
    "callId": text("Opaque", minLength=1, maxLength=tencent.MAX_CALL_ID),
    "requestId": text(_REQUEST_ID),
    "srcDisplayNum": text("What the caller's phone will show"),
    "dstDisplayNum": text("What the callee's phone will show"),
}
CANCELLED: dict[str, Schema] = {
    "errorCode": _OK,
    "msg": text("Empty, or why the call was left alone"),
    "callId": text("The call"),
}
STATUS: dict[str, Schema] = {
    "errorCode": _OK,
    "appId": _WRITTEN,
    "callId": _WRITTEN,
    "src": _NUMBER,
    "dst": _NUMBER,
    "callStatus": _one_of(
        "0: the caller's phone does not ring yet, 1: it rings, 2: the caller answered, "
        "3: the callee's phone rings, 4: they talk, 5: over",
        *"012345",
    ),
}
_TIMES: dict[str, Schema] = {
    "startSrcCallTime": _STAMP,
    "startSrcRingTime": _STAMP,
    "srcAcceptTime": _STAMP,
    "startDstCallTime": _STAMP,
    "startDstRingTime": _STAMP,
    "dstAcceptTime": _STAMP,
    "endCallTime": _STAMP,
    "callEndStatus": _one_of(
        "0: not known, 1: both answered, 2: the caller did not answer, 3: the callee did not, "
        "4: the caller was not reached, 5: the callee was not",
        *pushes.END_STATUS.values(),
    ),
    "duration": text("Seconds to be charged", "[0-9]+"),
}
ROW: dict[str, Schema] = {
    "callId": _WRITTEN,
    "src": _NUMBER,
    "dst": _NUMBER,
    **_TIMES,
    "recordUrl": text("A signed link to the recording; empty: there is none"),
    "callType": _TYPE,
    "bizId": text("Of the request; else empty"),
    "orderId": text("Of the request; else empty"),
}
CODE: dict[str, Schema] = {
    "nation": text("Country code", const=tencent.COUNTRY),
    "phone": text("A number that the app may show"),
}
_HEADING: dict[str, Schema] = {
    "appId": _WRITTEN,
    "callId": text("The call"),
    "requestId": text("Of the request; else empty"),
}
_PARTIES = _HEADING | {"src": _NUMBER, "dst": _NUMBER}
STATUS_PUSH = _PARTIES | {
    "userFlag": _one_of("Whose phone", *pushes.USER_FLAG.values()),
    "callStatus": _one_of(
        "disaccept is the normal end of a leg that was answered", *pushes.CALL_STATUS.values()
    ),
    "errorCode": text("SIP response code, with refused and failed when there is one", "[0-9]{3}"),
    "timeStamp": text("When it happened, UNIX seconds", "[0-9]+"),
    "callType": _TYPE,
}
KEY_PUSH = _HEADING | {
    "phone": _NUMBER,
    "key": _one_of("The key that the caller pressed", *sorted(menu.KEYS)),
    "callType": _TYPE,
}
CDR_PUSH = _PARTIES | _TIMES | {"callType": _TYPE, "bizId": text("If given"), "orderId": text("If given")}
RECORD_PUSH = _PARTIES | {
    "recordUrl": text("A signed link to the recording; empty: nobody talked"),
    "callType": _TYPE,
    "ringRecoResult": _one_of(
        "With ringRecognition: why the phone that was called last was not answered. 0: not known, "
        "2: no such number, 3: busy, 4: out of reach, 7: declined, 8: the caller hung up before, "
        "9: forbidden by the carrier",
        *sorted({pushes.UNRECOGNISED, pushes.CALLER_HUNG_UP, *pushes.RING_RESULT.values()}),
    ),
}
