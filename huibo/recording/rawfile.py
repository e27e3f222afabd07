"""Reads one raw file of the engine: a WAV file of the plainest kind, perhaps not closed yet.

The engine writes a header without lengths, the samples in pieces of 32 KiB (two seconds), and the lengths
when it closes the file. No library reads what is there until then, so the 44 bytes are read here.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from huibo.recording.job import Unfinished

Samples = NDArray[np.float32]

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")  # RIFF, WAVE, fmt with its 16 bytes, data
_PCM, _MONO, _BITS = 1, 1, 16


class RawFile:
    """An open raw file. `frames`: how many samples are there; `closed`: whether the engine is through."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        header = os.pread(descriptor, _HEADER.size, 0)
        if len(header) < _HEADER.size:
            raise Unfinished(f"raw file damaged: {name} has no header")
        fields = _HEADER.unpack(header)
        riff, riff_bytes, wave, fmt, fmt_bytes, coding, channels, self.rate, _, _, bits, data, data_bytes = (
            fields
        )
        if (riff, wave, fmt, fmt_bytes, data) != (b"RIFF", b"WAVE", b"fmt ", 16, b"data"):
            raise Unfinished(f"raw file damaged: {name} is not a WAV file")
        if (coding, channels, bits) != (_PCM, _MONO, _BITS) or not self.rate:
            raise Unfinished(f"raw file damaged: {name} is not mono with 16 bits")
        there = os.fstat(descriptor).st_size - _HEADER.size
        self.frames = there // 2
        # of an open file that is still empty the length of the samples is right, that of the whole is not
        self.closed = data_bytes == there and riff_bytes > 0

    def read(self, start: int, count: int) -> Samples:
        """Samples between -1 and 1 from frame `start` on; fewer than `count` only at the end."""
        wanted = max(0, min(count, self.frames - start)) * 2
        data = os.pread(self._descriptor, wanted, _HEADER.size + start * 2)
        if len(data) < wanted:
            raise Unfinished(f"raw file not readable: {self._name}", blameless=True)
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


@contextmanager
def open_raw(path: Path) -> Iterator[RawFile]:
    """Raises `Unfinished`, within as well when reading fails."""
    try:
        with path.open("rb", buffering=0) as file:
            yield RawFile(file.fileno(), path.name)
    except FileNotFoundError:
        raise Unfinished(f"raw file missing: {path.name}") from None
    except OSError as error:
        raise Unfinished(f"raw file not readable: {error.strerror}", blameless=True) from error
