"""Which pushes a call owes: what its request asked for, to the URLs it named or its app has.

Pure; the bodies are those of `pushes`.
"""

from __future__ import annotations

from huibo.model import Call, Cdr, Push, Report
from huibo.wire.pushes import cdr_push, key_push, status_push
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
        if call.cdr_url is None:
            return []
        return [_push(call, "cdr", seq, call.cdr_url, cdr_push(call, cdr))]


def _push(call: Call, kind: str, seq: int, url: str, body: bytes) -> Push:
    return Push(call.call_id, call.app_id, kind, seq, url, body)
