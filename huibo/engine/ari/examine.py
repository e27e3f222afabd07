"""Examines an Asterisk for `huibo doctor`: is it reachable, suitable, and set up as huibo needs it.

Asks over plain HTTP and changes nothing. What only its files tell is in `files`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from huibo.config import EngineSettings
from huibo.engine.ari import files
from huibo.engine.install.version import TESTED_FROM, UnsuitableAsterisk, check, parse
from huibo.findings import Finding, fail, ok, warn

TOPIC = "engine"

_MODULES = Path(__file__).with_name("etc") / "modules.conf"
_CLOCK_WARN_S, _CLOCK_FAIL_S = 2, 30
_USERS_FILE = "as in its ari.conf"


class NoAnswer(Exception):
    """Asterisk did not answer, or not with what was asked for; the message says what."""


@dataclass(frozen=True, slots=True)
class Ari:
    """Plain requests to an Asterisk."""

    settings: EngineSettings

    def get(self, path: str, **query: str) -> Any:
        """Raises `NoAnswer`."""
        status, body = self.ask("GET", path, **query)
        if status != 200:
            raise NoAnswer(f"GET {path}: {status}")
        return body

    def ask(self, method: str, path: str, **query: str) -> tuple[int, Any]:
        """A status and the body, decoded. Raises `NoAnswer`."""
        url = urlsplit(self.settings.url)
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=self.settings.request_timeout_s)
        user = f"{self.settings.username}:{self.settings.password}"
        headers = {"authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
        try:
            target = f"{url.path.rstrip('/')}/ari/{path}?{urlencode(query)}"
            connection.request(method, target, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
            is_json = "json" in answer.headers.get("content-type", "")
            return answer.status, json.loads(text) if text and is_json else None
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or error or type(error).__name__
            raise NoAnswer(f"nobody answers at {self.settings.url} ({reason})") from None
        finally:
            connection.close()


def examine(settings: EngineSettings) -> Iterator[Finding]:
    """All that can be told of the Asterisk of these settings; nothing more once it is not reachable."""
    ari = Ari(settings)
    try:
        status, about = ari.ask("GET", "asterisk/info")
    except NoAnswer as error:
        hint = "start Asterisk; [engine] url must be that of its http.conf (enabled, bindaddr, bindport)"
        yield fail(TOPIC, str(error), hint)
        return
    if status != 200 or not isinstance(about, dict):
        yield _refused(settings, status)
        return
    yield ok(TOPIC, f"Asterisk answers at {settings.url} and takes user {settings.username}")
    try:
        yield _version(about["system"]["version"])
        yield _modules(ari)
        yield _clock(ari)
        yield from _dialplan(ari)
        yield from files.examine(_folder(ari))
    except (NoAnswer, KeyError, TypeError, ValueError) as error:
        yield warn(TOPIC, f"could not be examined to its end: {error}", "ask again once it runs")


def user_of(settings: EngineSettings) -> int | None:
    """The user id that Asterisk runs as; None where its socket cannot be seen from here."""
    try:
        run = Ari(settings).get("asterisk/variable", variable="ASTRUNDIR")["value"]
        return Path(run, "asterisk.ctl").stat().st_uid if run else None
    except (NoAnswer, OSError, KeyError, TypeError):
        return None


def _refused(settings: EngineSettings, status: int) -> Finding:
    if status == 401:
        text = f"Asterisk refuses user {settings.username} with this password"
        return fail(TOPIC, text, f"set [engine] username and password {_USERS_FILE}")
    if status == 404:
        hint = "enabled=yes in its ari.conf, and load res_ari and its modules"
        return fail(TOPIC, f"what answers at {settings.url} offers no ARI", hint)
    return fail(TOPIC, f"Asterisk answers {status}", "look into its log")


def _version(version: str) -> Finding:
    try:
        check(version)
        number = parse(version)
    except UnsuitableAsterisk as error:
        return fail(TOPIC, str(error).partition(";")[0], "install 22.10.1 or newer")
    tested = tuple(map(int, number.split("."))) >= TESTED_FROM
    if not tested:
        return warn(TOPIC, f"version {number} may do, but is not tested", "22.10.1 or newer of 22 is")
    return ok(TOPIC, f"version {number}")


def _modules(ari: Ari) -> Finding:
    lines = _MODULES.read_text(encoding="utf-8").splitlines()
    needed = {line.removeprefix("load=") for line in lines if line.startswith("load=")}
    running = {one["name"] for one in ari.get("asterisk/modules") if one["status"] == "Running"}
    if missing := sorted(needed - running):
        hint = "load them in its modules.conf and start it again"
        return fail(TOPIC, f"modules that do not run: {', '.join(missing)}", hint)
    return ok(TOPIC, f"all {len(needed)} modules that huibo needs run")


def _clock(ari: Ari) -> Finding:
    before = time.time()
    there = datetime.fromisoformat(ari.get("asterisk/ping")["timestamp"]).timestamp()
    apart = max(before - there, there - time.time(), 0.0)
    text = f"its clock and this one are {apart:.1f} s apart"
    if apart < _CLOCK_WARN_S:
        return ok("clock", "the same as Asterisk's")
    hint = "have both machines keep their time, e.g. with chrony"
    return fail("clock", text, hint) if apart > _CLOCK_FAIL_S else warn("clock", text, hint)


def _dialplan(ari: Ari) -> Iterator[Finding]:
    """Whether a recording can be started, and whether this user may do more than look.

    A channel of a kind that there is not, with a label of the context: an unknown label is refused first.
    """
    status, body = ari.ask(
        "POST", "channels", endpoint="None/none", context="record", extension="s", label="recording"
    )
    if status == 403:
        yield fail(TOPIC, "its user may only look", f"read_only=no for the user {_USERS_FILE}")
    elif "label" in str(body):
        hint = "copy huibo's extensions.conf to it and reload its dialplan"
        yield fail(TOPIC, "the context record, which starts recordings, is not in its dialplan", hint)
    else:
        yield ok(TOPIC, "its dialplan can start recordings")


def _folder(ari: Ari) -> Path | None:
    """Its configuration, where it is on this machine and may be read."""
    folder = ari.get("asterisk/variable", variable="ASTETCDIR")["value"]
    return Path(folder) if folder and Path(folder).is_dir() else None
