"""Download links: signed, for one call's recording, valid until a moment. Pure.

Whoever has a link may listen, so links are secrets: they are pushed to the customer and never logged.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64

LINK_SECRET = "recording-links"  # its name in the table of secrets

_PURPOSE = b"huibo recording link 1\0"  # a signature made for anything else does not fit
_TIME_BYTES, _MAC_BYTES = 8, 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def link(base_url: str, secret: bytes, call_id: str, expires_at: int, ending: str) -> str:
    """The URL under which a recording can be fetched until `expires_at` (UNIX ms)."""
    return f"{base_url}/recordings/{sign(secret, call_id, expires_at)}.{ending}"


def sign(secret: bytes, call_id: str, expires_at: int) -> str:
    """A token for that call until `expires_at` (UNIX ms): base64url of time, call id, HMAC-SHA256."""
    claim = expires_at.to_bytes(_TIME_BYTES, "big") + call_id.encode()
    return _text(claim + _mac(secret, claim))


def check(secret: bytes, token: str, now: int) -> str | None:
    """The call id that a token is good for at `now` (UNIX ms); None for any other text whatever."""
    if not _TOKEN.fullmatch(token):
        return None
    try:
        signed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except NotBase64:
        return None
    # The unused bits of a last character are not covered by the signature: one token, one spelling.
    if len(signed) <= _TIME_BYTES + _MAC_BYTES or _text(signed) != token:
        return None
    claim, mac = signed[:-_MAC_BYTES], signed[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret, claim)):
        return None
    if now >= int.from_bytes(claim[:_TIME_BYTES], "big"):
        return None
    return claim[_TIME_BYTES:].decode()


def _mac(secret: bytes, claim: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + claim, "sha256")


def _text(signed: bytes) -> str:
    return urlsafe_b64encode(signed).rstrip(b"=").decode()
