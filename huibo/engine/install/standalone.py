"""An Asterisk for a huibo in production: a folder with its whole configuration and two scripts.

It is made from the templates that huibo is tested with. Starts nothing, writes nothing outside the folder.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huibo.engine.install.binary import Asterisk
from huibo.engine.install.instance import Instance, render

_TEMPLATES = Path(__file__).parents[1] / "ari/etc"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the Asterisk is to be reached: by huibo (ARI) and by carriers. `public_address`: behind NAT."""

    http_port: int
    ari_app: str
    ari_username: str
    ari_password: str
    sip: tuple[str, int]
    tls_port: int
    tls_unverified_port: int
    rtp: tuple[int, int]
    ca_file: Path
    public_address: str | None = None
    local_networks: Sequence[str] = ()


def prepare(asterisk: Asterisk, folder: Path, wanted: Wanted) -> Instance:
    """Write the folder, or bring it up to date; `start` in it runs the Asterisk, `console` asks it."""
    host, port = wanted.sip
    values = {
        "http_port": wanted.http_port,
        "ari_app": wanted.ari_app,
        "ari_username": wanted.ari_username,
        "ari_password": wanted.ari_password,
        "sip_bind": _bind(host, port),
        "tls_bind": _bind(host, wanted.tls_port),
        "tls_unverified_bind": _bind(host, wanted.tls_unverified_port),
        "ca_file": wanted.ca_file,
        "rtp_start": wanted.rtp[0],
        "rtp_end": wanted.rtp[1],
    }
    files = render(_TEMPLATES, values)
    if wanted.public_address is not None:
        files["pjsip.conf"] = _behind_nat(files["pjsip.conf"], wanted.public_address, wanted.local_networks)
    instance = Instance(asterisk, folder)
    instance.write(files)
    _script(folder / "start", instance, shlex.join(instance.argv))
    _script(folder / "console", instance, shlex.join(instance.cli(""))[: -len("''")] + '"$*"')
    return instance


def _bind(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _behind_nat(conf: str, address: str, networks: Sequence[str]) -> str:
    """What carriers are told in place of our own address, on each transport."""
    lines = [f"external_media_address={address}", f"external_signaling_address={address}"]
    lines += [f"local_net={network}" for network in networks]
    return conf.replace("type=transport\n", "\n".join(["type=transport", *lines, ""]))


def _script(file: Path, instance: Instance, command: str) -> None:
    environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in instance.env.items())
    file.write_text(f"#!/bin/sh\nexec env -i {environment} {command}\n", encoding="utf-8")
    file.chmod(0o700)
