"""Which pushes a call owes: what its request asked for, to the URLs it named or its app has.

Pure; the bodies are those of `pushes`.
"""

from __future__ import annotations

from huibo.model import Call, CallResult, Cdr, Push, Report
from huibo.wire.pushes import UNRECOGNISED, cdr_push, key_push, record_push, ring_result, status_push
from huibo.wire.tencent import wants


class WireNotifier:
    """`huibo.ports.Notifier` in the words of the callback API."""

    def on_moment(self, call: Call, seq: int, report: Report) -> list[Push]:
        if call.status_url is None or not wants(call.status_mask, report.leg, report.moment):
            return []
        return [_push(call, "status", seq, call.status_url, status_push(call, report))]

    def on_key(self, call: Call, seq: int, key: str) -> list[Push]:
        if call.key_url is None:
            return []
        return [_push(call, "key", seq, call.key_url, key_push(call, key))]

    def on_cdr(self, call: Call, seq: int, cdr: Cdr) -> list[Push]:
        owed = []
        if call.cdr_url is not None:
            owed.append(_push(call, "cdr", seq, call.cdr_url, cdr_push(call, cdr)))
        if call.recognise_ringing and call.record_url is not None and cdr.result is not CallResult.TALKED:
            body = record_push(call, "", ring_result(cdr))
            owed.append(_push(call, "recording", seq + 1, call.record_url, body))
        return owed

    def on_recording(self, call: Call, seq: int, url: str) -> list[Push]:
        if call.record_url is None:
            return []
        answered = UNRECOGNISED if call.recognise_ringing else None
        return [_push(call, "recording", seq, call.record_url, record_push(call, url, answered))]


def _push(call: Call, kind: str, seq: int, url: str, body: bytes) -> Push:
    return Push(call.call_id, call.app_id, kind, seq, url, body)
