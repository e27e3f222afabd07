"""A voice behind HTTP: one POST of JSON for each text, a sound file in answer.

Owns the client session. Follows no redirect, and puts neither the address nor a header into an error text:
they may hold a token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import aiohttp
from pydantic import JsonValue

from huibo.config import HttpVoiceSettings
from huibo.prompts.text import language_of, spoken
from huibo.prompts.voice import Gender, VoiceFailed, filled

_BODY: dict[str, JsonValue] = {"text": "$text", "gender": "$gender", "language": "$language"}
_CHUNK = 65536


class HttpVoice:
    """`huibo.prompts.voice.Voice`. `max_bytes`: of an answer; `spell_out`: with numbers written out."""

    name = "http"

    def __init__(
        self, settings: HttpVoiceSettings, *, timeout_s: float, max_bytes: int, spell_out: bool
    ) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._spell_out = spell_out
        self._session: aiohttp.ClientSession | None = None

    def fingerprint(self, text: str, gender: Gender) -> str:
        return json.dumps(["http", self._settings.url, self._body(text, gender)])

    async def say(self, text: str, gender: Gender) -> bytes:
        try:
            async with self._client().post(
                self._settings.url,
                json=self._body(text, gender),
                headers=self._settings.headers,
                allow_redirects=False,
            ) as answer:
                if answer.status != 200:
                    raise VoiceFailed(f"voice http: answered {answer.status}")
                return await self._read(answer)
        except TimeoutError:
            raise VoiceFailed(f"voice http: no answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise VoiceFailed(f"voice http: {_reason(error)}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        audio = bytearray()
        async for piece in answer.content.iter_chunked(_CHUNK):
            audio += piece
            if len(audio) > self._max_bytes:
                answer.close()
                raise VoiceFailed(f"voice http: more than {self._max_bytes} bytes in the answer")
        if not audio:
            raise VoiceFailed("voice http: an empty answer")
        return bytes(audio)

    def _body(self, text: str, gender: Gender) -> JsonValue:
        settings = self._settings
        words = {
            "text": spoken(text) if self._spell_out else text,
            "gender": settings.male if gender is Gender.MALE else settings.female,
            "language": language_of(text).value,
        }
        return _filled_in(settings.body or _BODY, words)


def _filled_in(value: JsonValue, words: Mapping[str, str]) -> JsonValue:
    """The value with `$text` and its like put in wherever a string stands."""
    match value:
        case str():
            return filled(value, words)
        case list():
            return [_filled_in(one, words) for one in value]
        case dict():
            return {key: _filled_in(one, words) for key, one in value.items()}
        case _:
            return value


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorError():
            return f"no connection ({error.os_error.strerror or type(error.os_error).__name__})"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "the connection was closed in the middle of the answer"
        case _:
            return type(error).__name__
