"""The sandbox carrier: a private Asterisk that plays the telephone network.

Owns the carrier's folder: its configuration, `calls.jsonl`, `heard/`. Starts no process: `instance` says how.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huibo.engine.install.binary import Asterisk
from huibo.engine.install.instance import Instance, render
from huibo.sandbox import dialplan, phones

_TEMPLATES = Path(__file__).with_name("etc")
_PRESS_MS = 160
_UNSPEAKABLE = ',;()[]{}$"\\&|'


@dataclass(frozen=True, slots=True)
class Carrier:
    """A carrier that listens on 127.0.0.1:`sip_port` (UDP) once `instance` runs."""

    instance: Instance
    sip_port: int

    @classmethod
    def create(cls, asterisk: Asterisk, folder: Path, sip_port: int) -> Carrier:
        """Write everything the instance needs into `folder`. The log and recordings of earlier runs stay.

        Raises ValueError for a folder whose path cannot be written in a dialplan. A blank in it works, but
        Asterisk then complains of it in its log with every line.
        """
        carrier = cls(Instance(asterisk, folder.absolute()), sip_port)
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
            "phones": dialplan.phones(phones.PHONES, phones.ELSE),
            "information_tone": dialplan.INFORMATION_TONE,
            "presses": phones.PRESSES,
            "press_first_s": phones.FIRST_PRESS_S,
            "press_every_s": phones.PRESS_EVERY_S,
            "press_ms": _PRESS_MS,
        }
