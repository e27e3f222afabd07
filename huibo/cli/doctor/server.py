"""Doctor: the running server, and how it finds its trunks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

from huibo.cli.output import Failed
from huibo.cli.server import Server, why
from huibo.config import Settings
from huibo.findings import Finding, fail, ok, warn
from huibo.model import TrunkState
from huibo.storage.tokens import Role

_TOPIC = "server"


def examine(settings: Settings, database_usable: bool) -> Iterator[Finding]:
    """What needs the database is left out where that cannot be used."""
    server = Server(settings.http, Role.VIEWER, "huibo doctor")
    alive, reason = _ask(server, "/healthz")
    if alive is None:
        yield fail(_TOPIC, f"nobody answers at {server.address} ({reason})", "start `huibo serve`")
        return
    if alive.get("alive") is not True:
        hint = "another program has this port: give huibo another one, [http] port"
        yield fail(_TOPIC, f"what answers at {server.address} is no huibo", hint)
        return
    ready, _ = _ask(server, "/readyz")
    if ready is None or not ready.get("ready"):
        reason = (ready or {}).get("reason", "no answer to /readyz")
        yield fail(_TOPIC, f"runs at {server.address}, but takes no calls: {reason}", "see the lines above")
    else:
        yield ok(_TOPIC, f"runs at {server.address} and takes calls")
    if database_usable:
        yield from _trunks(server)


def _trunks(server: Server) -> Iterator[Finding]:
    try:
        answer = server.get("/v1/health")
    except Failed as error:
        yield fail(_TOPIC, str(error))
        return
    if answer.status != 200:
        hint = "does it run with these settings, on this database?"
        yield fail(_TOPIC, f"refuses a token of this database ({answer.status})", hint)
        return
    for trunk in answer.body["trunks"]:
        yield _trunk(trunk)


def _trunk(trunk: dict[str, Any]) -> Finding:
    topic, name = "trunk", trunk["name"]
    if trunk["state"] != TrunkState.ACTIVE:
        said = "takes no new calls" if trunk["state"] == TrunkState.DRAINING else "is off"
        return warn(topic, f"{name} {said}", f"`huibo trunk on {name}`, if it should")
    if trunk["reachable"] is False:
        hint = f"its address (`huibo trunk show {name}`), the network, the firewall, the carrier"
        return fail(topic, f"{name} does not answer OPTIONS", hint)
    if trunk["registered"] is False:
        return fail(topic, f"{name} is not registered", "its username and password, and Asterisk's log")
    if trunk["lock"]:
        hint = f"look at `huibo calls`, then `huibo lock lift trunk {name}`"
        return warn(topic, f"{name} is locked: {trunk['lock']['reason']}", hint)
    known = "reachable" if trunk["reachable"] else "not known to be unreachable: it is not asked"
    return ok(topic, f"{name} is {known}{', registered' if trunk['registered'] else ''}")


def _ask(server: Server, path: str) -> tuple[dict[str, Any] | None, str]:
    """The JSON that a health URL answers, {} for what is none; or None and why there is no answer."""
    connection = server.connection()
    try:
        connection.request("GET", path)
        body = json.loads(connection.getresponse().read())
        return (body, "") if isinstance(body, dict) else ({}, "")
    except ValueError:
        return {}, ""
    except (OSError, HTTPException) as error:
        return None, why(error)
    finally:
        connection.close()
