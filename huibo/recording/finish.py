"""Makes one stereo file out of what the engine recorded: the caller left, the callee right.

Work on files only, in a process of its own (`finish_main`): it may take minutes, fill memory or crash on a
damaged file, and none of that may touch a call. Reads in blocks, so that a day's call costs no more memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from io import FileIO
from pathlib import Path

import numpy as np
import soundfile

from huibo.recording.job import Job, Made, Unfinished, not_written
from huibo.recording.rawfile import RawFile, Samples, open_raw

_BLOCK_S = 30
_TOLERANCE_MS, _TOLERANCE = 500, 0.02  # the least, and the share of the talk time
_UNWRITTEN_MS = 2100  # what Asterisk holds back of each file (32 KB), and takes with it when it is killed
_SILENCE = 16 / 32768  # what A-law makes of nothing stays below this

# Speech at 8 kHz comes to about 32 kbit/s as MP3, 41 as Opus (its own choice); docs/recording.md has figures.
_ENCODINGS: dict[str, dict[str, object]] = {
    "mp3": {
        "format": "MP3",
        "subtype": "MPEG_LAYER_III",
        "compression_level": 0,
        "bitrate_mode": "VARIABLE",
    },
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "wav": {"format": "WAV", "subtype": "PCM_16"},
}


def finish(job: Job) -> Made:
    """Make the file, complete and on disk when this returns. Raises `Unfinished`; nothing is left then."""
    with ExitStack() as stack:
        said, heard = (stack.enter_context(open_raw(path)) for path in (job.said, job.heard))
        conversation = _Conversation(said, heard, job)
        conversation.check()
        try:
            _write(job, conversation)
            size, digest = job.into.stat().st_size, _digest(job.into)
        except OSError as error:
            job.into.unlink(missing_ok=True)
            raise not_written(error) from error
        except BaseException:
            job.into.unlink(missing_ok=True)
            raise
    duration_ms = round(conversation.frames * 1000 / conversation.rate)
    return Made(size, digest, duration_ms, conversation.silent, conversation.lacks)


class _Conversation:
    """The end of both raw files, as long as the talk was: they begin before the callee was dialled."""

    def __init__(self, said: RawFile, heard: RawFile, job: Job) -> None:
        self._job = job
        self._files = (said, heard)
        self._peaks = [0.0, 0.0]
        self.rate = said.rate
        longest = max(said.frames, heard.frames)
        self.frames = min(longest, job.talk_ms * self.rate // 1000)
        self._start = longest - self.frames
        self.lacks: str | None = None

    @property
    def silent(self) -> tuple[str, ...]:
        """Known once all blocks have been read."""
        names = ("caller", "callee")
        return tuple(name for name, peak in zip(names, self._peaks, strict=True) if peak <= _SILENCE)

    def check(self) -> None:
        """Raise `Unfinished` unless the whole conversation is there, or all that there will ever be."""
        job, (said, heard) = self._job, self._files
        if said.rate != heard.rate:
            raise Unfinished("raw file damaged: two sampling rates")
        if not job.last and not (said.closed and heard.closed):
            raise Unfinished("raw file not closed")
        if not self.frames or not (job.last or (said.frames and heard.frames)):
            raise Unfinished("empty audio")
        self.lacks = self._missing()
        if self.lacks is not None and not job.last:
            raise Unfinished(self.lacks)

    def _missing(self) -> str | None:
        """What the files lack of the conversation, but for what is let pass."""
        job, (said, heard) = self._job, self._files
        tolerance_s = (_TOLERANCE_MS + job.talk_ms * _TOLERANCE) / 1000
        if not (said.closed and heard.closed):
            tolerance_s += _UNWRITTEN_MS / 1000
        said_s, heard_s = said.frames / self.rate, heard.frames / self.rate
        if abs(said_s - heard_s) > tolerance_s:
            return f"lengths differ: caller {said_s:.1f} s, callee {heard_s:.1f} s"
        if min(said_s, heard_s) < job.talk_ms / 1000 - tolerance_s:
            return f"too short: {min(said_s, heard_s):.1f} s of {job.talk_ms / 1000:.1f} s"
        return None

    def blocks(self) -> Iterator[Samples]:
        """Both parties side by side. Not as integers: libsndfile makes noise of those in a stereo MP3."""
        at, end = self._start, self._start + self.frames
        while at < end:
            block = np.zeros((min(end - at, _BLOCK_S * self.rate), 2), np.float32)
            for side, file in enumerate(self._files):
                samples = file.read(at, len(block))
                block[: len(samples), side] = samples
                self._peaks[side] = max(self._peaks[side], float(np.abs(samples).max(initial=0)))
            yield block
            at += len(block)


class _Target:
    """A file for libsndfile, whose callbacks cannot raise: keeps the first error, and takes no more."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is not None:
            return 0
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
            return 0
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _write(job: Job, conversation: _Conversation) -> None:
    with open(job.into, "wb", buffering=0, opener=_private) as file:
        target = _Target(file)
        try:
            _encode(target, job.format, conversation)
        except (soundfile.SoundFileError, AssertionError) as error:  # AssertionError: a short write
            if target.error is None:
                raise Unfinished(f"not encoded: {error}") from error
        if target.error is not None:
            raise target.error
        os.fsync(file.fileno())


def _encode(target: _Target, form: str, conversation: _Conversation) -> None:
    with soundfile.SoundFile(target, "w", conversation.rate, 2, **_ENCODINGS[form]) as encoded:
        for block in conversation.blocks():
            encoded.write(block)
            if target.error is not None:
                return


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
