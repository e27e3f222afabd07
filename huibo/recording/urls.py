"""The addresses of recordings that can be fetched at this moment: a unit of work over rows and the secret."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from huibo.recording.links import LINK_SECRET, link
from huibo.storage.recordings import ready_recordings
from huibo.storage.secrets import find_secret


def urls_of(connection: Connection, base_url: str, call_ids: Collection[str]) -> dict[str, str]:
    """The download links of these calls' recordings by call id; calls without one are left out."""
    secret = find_secret(connection, LINK_SECRET)
    if secret is None:
        return {}
    return {
        one.call_id: link(base_url, secret, one.call_id, one.expires_at, one.format)
        for one in ready_recordings(connection, call_ids)
        if one.expires_at is not None and one.format is not None
    }
