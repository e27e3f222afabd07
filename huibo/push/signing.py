"""Signs pushes as Standard Webhooks has it: three headers; the body is not touched.

Pure. Knows secrets only as they are handed in, and shows them to nobody.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes


def id_of(call_id: str, seq: int) -> str:
    """The `webhook-id` of a push: the same in every attempt, and of no other push."""
    return f"{call_id}-{seq}"


def secret_of(key: bytes) -> str:
    """A key as customers get it."""
    return _PREFIX + base64.b64encode(key).decode()


def key_of(secret: str) -> bytes:
    """The key in a secret. Raises `ValueError`, without the secret, for what is none."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(_PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
        raise ValueError(f"not {_PREFIX} and the base64 of {_SHORTEST} to {_LONGEST} bytes")
    return key


def headers(push_id: str, body: bytes, secrets: Sequence[str], now_s: int) -> dict[str, str]:
    """The headers of one attempt: one signature for each secret; without any, only the id."""
    named = {"webhook-id": push_id}
    if not secrets:
        return named
    signed = f"{push_id}.{now_s}.".encode() + body
    digests = [hmac.digest(key_of(secret), signed, hashlib.sha256) for secret in secrets]
    signatures = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    return named | {"webhook-timestamp": str(now_s), "webhook-signature": signatures}
