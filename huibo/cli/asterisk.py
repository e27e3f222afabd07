"""`huibo asterisk`: an Asterisk for this huibo, as its settings say, ready to be started."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from huibo.cli.output import Failed, console, say
from huibo.cli.store import settings
from huibo.engine.install import InstallError
from huibo.engine.install.progress import shown
from huibo.engine.install.resolve import resolve
from huibo.engine.install.standalone import Wanted, prepare

commands = typer.Typer(no_args_is_help=True)

SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")  # Debian's and Ubuntu's


@commands.command()
def asterisk(
    folder: Annotated[Path, typer.Argument(help="Where it is to live; made, or brought up to date.")],
    sip: Annotated[str, typer.Option(help="Where it speaks SIP over UDP and TCP.")] = "0.0.0.0:5060",
    tls_port: Annotated[int, typer.Option(min=1, max=65535, help="And over TLS.")] = 5061,
    tls_unverified_port: Annotated[
        int,
        typer.Option(min=1, max=65535, help="And over TLS with carriers whose certificate is not checked."),
    ] = 5062,
    rtp: Annotated[str, typer.Option(help="The ports of audio.")] = "10000-20000",
    public_address: Annotated[
        str | None, typer.Option(help="Behind NAT: the address that carriers see.")
    ] = None,
    local_net: Annotated[
        list[str] | None, typer.Option(help="Behind NAT: a network on this side of it; may be repeated.")
    ] = None,
    ca_file: Annotated[Path, typer.Option(help="Whom it trusts in TLS: certificates (PEM).")] = SYSTEM_CA,
) -> None:
    """Write an Asterisk's folder: configuration, and the scripts `start` and `console`.

    Uses the Asterisk that HUIBO_ASTERISK names, else the system's, else fetches Debian's into the cache.
    Its port, and huibo's name and password there, are those of huibo's own settings (engine.url …).
    """
    wanted = _wanted(sip, tls_port, tls_unverified_port, rtp, ca_file, public_address, local_net or [])
    try:
        with shown(console()) as show:
            found = resolve(on_progress=show)
        prepare(found, folder.absolute(), wanted)
    except InstallError as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"{folder}: {error.strerror or error}") from error
    say(f"Asterisk {found.version} ({found.origin}) is ready in {folder.absolute()}")
    say(f"run it with {folder.absolute()}/start, ask it with {folder.absolute()}/console core show version")


def _wanted(
    sip: str,
    tls_port: int,
    tls_unverified_port: int,
    rtp: str,
    ca_file: Path,
    public_address: str | None,
    local_net: list[str],
) -> Wanted:
    engine = settings().engine
    url = urlsplit(engine.url)
    if url.hostname not in ("127.0.0.1", "localhost"):
        raise Failed(f"engine.url is {engine.url}: this is for an Asterisk on the same machine, 127.0.0.1")
    if engine.password == "huibo":
        raise Failed("engine.password is the default one: choose a long secret in the settings")
    host, port = _address(sip)
    ports = {port, tls_port, tls_unverified_port}
    if len(ports) < 3:
        raise Failed("--sip, --tls-port and --tls-unverified-port: each needs a port of its own")
    if not ca_file.is_file():
        raise Failed(f"--ca-file: no {ca_file} (apt install ca-certificates)")
    return Wanted(
        http_port=url.port or 80,
        ari_app=engine.app,
        ari_username=engine.username,
        ari_password=engine.password,
        sip=(host, port),
        tls_port=tls_port,
        tls_unverified_port=tls_unverified_port,
        rtp=_range(rtp),
        ca_file=ca_file.absolute(),
        public_address=None if public_address is None else _checked(ip_address, public_address),
        local_networks=[_checked(ip_network, network) for network in local_net],
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Failed(f"--sip {text}: write it as ADDRESS:PORT, like 0.0.0.0:5060")
    return _checked(ip_address, host.strip("[]")), int(port)


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 1024 <= int(first) < int(last) < 65536):
        raise Failed(f"--rtp {text}: write it as FIRST-LAST, like 10000-20000")
    return int(first), int(last)


def _checked(kind: Callable[[str], object], text: str) -> str:
    try:
        return str(kind(text))
    except ValueError as error:
        raise Failed(str(error)) from None
