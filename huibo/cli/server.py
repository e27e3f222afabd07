"""The running server, asked over its own API with a token of a few minutes that is made for it."""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any

from huibo.cli.output import Failed
from huibo.cli.store import author, change
from huibo.config import Http
from huibo.office import tokens
from huibo.office.tokens import NewToken
from huibo.storage.tokens import Role

_TIMEOUT_S = 15.0
_TOKEN_S = 300
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class NoServer(Failed):
    """There is nobody who answers, or it is no huibo."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said: a status, and JSON or None."""

    status: int
    body: Any


class Server:
    """The API of the server that runs with these settings."""

    def __init__(self, http: Http, role: Role, purpose: str) -> None:
        self._host = _EVERYWHERE.get(http.host, http.host)
        self._port = http.port
        self._certificate = http.tls_certificate
        self._role = role
        self._purpose = purpose
        self._token = ""
        self._valid_until = 0.0

    @property
    def address(self) -> str:
        return f"{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    def connection(self) -> HTTPConnection:
        """A connection that is yet to be opened. Over TLS whoever has the configured certificate is trusted:
        it is made out to the name that customers use, and not to this address."""
        if not self._certificate:
            return HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(self._certificate)
        return HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_S, context=context)

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """One request. Raises `NoServer`."""
        connection = self.connection()
        headers = {"authorization": f"Bearer {self._fresh_token()}", "content-type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return Answer(answer.status, json.loads(text) if text else None)
        except (OSError, HTTPException) as error:
            raise NoServer(
                f"no huibo answers at {self.address} ({why(error)}): start it with `huibo serve`"
            ) from None
        except ValueError:
            raise NoServer(f"what answers at {self.address} is no huibo") from None
        finally:
            connection.close()

    def _fresh_token(self) -> str:
        if time.monotonic() > self._valid_until - _TIMEOUT_S:
            until = author().at + _TOKEN_S * 1000
            made = change(tokens.make, NewToken(name=self._purpose, role=self._role, expires_at=until))
            self._token = made.token
            self._valid_until = time.monotonic() + _TOKEN_S
        return self._token


def why(error: Exception) -> str:
    """The reason in an error of the network."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def told(answer: Answer) -> Failed:
    """Why the server would not do what was asked."""
    body = answer.body if isinstance(answer.body, dict) else {}
    detail = body.get("detail", f"the server answered {answer.status}")
    return Failed(f"{body['rule']} ({body['code']}): {detail}" if "rule" in body else detail)
