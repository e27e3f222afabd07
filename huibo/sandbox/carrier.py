"""The sandbox carrier: a private Asterisk that plays the telephone network.

Owns the carrier's folder: its configuration, `calls.jsonl`, `heard/`. Starts no process: `instance` says how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huibo.engine.install.binary import Asterisk
from huibo.engine.install.instance import Instance, render
from huibo.sandbox import dialplan, phones
from huibo.sandbox.phones import ELSE, PHONES, Phone

_TEMPLATES = Path(__file__).with_name("etc")
_PRESS_MS = 160
_UNSPEAKABLE = ',;()[]{}$"\\&|'

_TLS = """
[tls]
type=transport
protocol=tls
bind=127.0.0.1:{tls.port}
cert_file={tls.certificate}
priv_key_file={tls.key}
method=tlsv1_2
"""
# An address of record has the name of the user who registers; it may call from one place at a time.
_ACCOUNT = """
[engine]
type=auth
auth_type=userpass
username={account.username}
password={password}

[{account.username}]
type=aor
max_contacts=1
remove_existing=yes
"""


@dataclass(frozen=True, slots=True)
class Account:
    """Who may call over a carrier that asks. `register`: only once a REGISTER has come."""

    username: str
    password: str
    register: bool = False


@dataclass(frozen=True, slots=True)
class Tls:
    """What a carrier needs to take calls over TLS: a port, and its certificate with the key (PEM)."""

    port: int
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Terms:
    """How a carrier is otherwise than the plain one: whom it serves, and what its phones do.

    `phones` come in place of the table of the sandbox, `otherwise` is every other number's.
    """

    account: Account | None = None
    tls: Tls | None = None
    phones: Sequence[Phone] = PHONES
    otherwise: Phone = ELSE


@dataclass(frozen=True, slots=True)
class Carrier:
    """A carrier that listens on 127.0.0.1:`sip_port` (UDP and TCP) once `instance` runs."""

    instance: Instance
    sip_port: int
    terms: Terms = Terms()

    @classmethod
    def create(cls, asterisk: Asterisk, folder: Path, sip_port: int, terms: Terms | None = None) -> Carrier:
        """Write everything the instance needs into `folder`. The log and recordings of earlier runs stay.

        Raises ValueError for a folder whose path cannot be written in a dialplan. A blank in it works, but
        Asterisk then complains of it in its log with every line.
        """
        carrier = cls(Instance(asterisk, folder.absolute()), sip_port, terms or Terms())
        if not set(str(carrier.instance.folder)).isdisjoint(_UNSPEAKABLE):
            raise ValueError(
                f"the sandbox cannot run in {carrier.instance.folder}: its path has one of {_UNSPEAKABLE}"
            )
        carrier.instance.write(render(_TEMPLATES, carrier._values()))
        carrier.heard_dir.mkdir(mode=0o700, exist_ok=True)
        carrier.calls_log.touch(mode=0o600)
        return carrier

    @property
    def calls_log(self) -> Path:
        """What the phones did, one JSON object a line (`journal` reads it)."""
        return self.instance.folder / "calls.jsonl"

    @property
    def heard_dir(self) -> Path:
        """The recordings of what each answered phone heard: WAV, 8 kHz, mono, 16 bit."""
        return self.instance.folder / "heard"

    def _values(self) -> dict[str, object]:
        return {
            "sip_port": self.sip_port,
            "calls_log": self.calls_log,
            "heard_dir": self.heard_dir,
            "phones": dialplan.phones(self.terms.phones, self.terms.otherwise),
            "information_tone": dialplan.INFORMATION_TONE,
            "presses": phones.PRESSES,
            "press_first_s": phones.FIRST_PRESS_S,
            "press_every_s": phones.PRESS_EVERY_S,
            "press_ms": _PRESS_MS,
        } | self._entry()

    def _entry(self) -> dict[str, str]:
        """Who may come in, and how."""
        account, tls = self.terms.account, self.terms.tls
        return {
            "tls": _TLS.format(tls=tls) if tls else "",
            "asks": f"auth=engine\naors={account.username}\n" if account else "",
            # a semicolon begins a comment
            "account": _ACCOUNT.format(account=account, password=account.password.replace(";", "\\;"))
            if account
            else "",
            "username": account.username if account else "",
            "entrance": "registered" if account and account.register else "network",
        }
