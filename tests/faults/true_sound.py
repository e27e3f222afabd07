"""What the phones of a true world have recorded: each one the other's tone, for as long as both were up.

Writes files. Knows nothing of calls but what the phones' journals say.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from huibo.sandbox.journal import PhoneEvent, PhoneMoment
from huibo.sandbox.tones import RATE, tone_of
from tests.faults.evidence import Evidence


def tone(number: str, seconds: float) -> NDArray[np.float64]:
    """The voice of a number's phone."""
    times = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(0.3 * np.sin(2 * np.pi * tone_of(number) * times))


def write_heard(evidence: Evidence) -> None:
    """The file of each phone that answered. It begins with its answer: who waits hears nothing."""
    phones = {event.number: (file, event) for file, event in _answers(evidence)}
    ends = {
        event.number: event
        for log in evidence.phones.values()
        for event in log
        if event.event is PhoneMoment.HUNG_UP
    }
    for asked in evidence.asked:
        numbers = [asked.body[name].removeprefix("0086") for name in ("src", "dst")]
        for own, other in (numbers, numbers[::-1]):
            if own in phones:
                file, answer = phones[own]
                alone_s = together_s = 0.0
                if other in phones:
                    begin = max(answer.at, phones[other][1].at)
                    alone_s = (begin - answer.at).total_seconds()
                    together_s = (min(ends[own].at, ends[other].at) - begin).total_seconds()
                write(file, np.concatenate((np.zeros(round(alone_s * RATE)), tone(other, together_s))))


def write(file: Path, sound: NDArray[np.float64]) -> None:
    """As a carrier does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, sound, RATE, subtype="PCM_16")


def _answers(evidence: Evidence) -> Iterator[tuple[Path, PhoneEvent]]:
    for carrier, log in evidence.phones.items():
        for event in log:
            if event.event is PhoneMoment.ANSWERED and event.heard is not None:
                yield evidence.heard[carrier] / event.heard, event
