"""For the recording tests: sound, raw files as the engine leaves them, calls that are owed a recording."""

from __future__ import annotations

import asyncio
import json
import wave
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import structlog
from numpy.typing import NDArray
from sqlalchemy import select

from huibo.clock import Clock
from huibo.config import RecordingSettings
from huibo.flow.state import CallState, Plan
from huibo.model import Call
from huibo.recording.attempt import Means
from huibo.recording.raw import RawRecordings
from huibo.recording.retention import Retention
from huibo.recording.store import LocalStore
from huibo.recording.worker import Finisher
from huibo.storage.calls import add_call, save_step
from huibo.storage.database import Database
from huibo.storage.recordings import Recording, add_recording, find_recording
from huibo.storage.tables import pushes
from huibo.wire.notifier import WireNotifier

RATE = 8000
CALLER_HZ, CALLEE_HZ, RINGING_HZ = 440, 1000, 2200
PATIENCE_S = 15.0
BASE_URL = "https://call.example.com"
HOOK = "https://hook.example/recording"

Samples = NDArray[np.int16]


def tone(hz: float, seconds: float, level: float = 0.3) -> Samples:
    at = np.arange(round(seconds * RATE)) / RATE
    return (np.sin(2 * np.pi * hz * at) * level * 32767).astype(np.int16)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.int16)


def write_raw(path: Path, *parts: Samples) -> None:
    """A raw file as the engine leaves it when it has closed it."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.concatenate(parts).astype("<i2").tobytes())


def reopen(path: Path, lose: int = 0) -> bytes:
    """Make a raw file look as it does while the engine writes it, its last `lose` bytes still in memory.

    Returns what it is when it is closed.
    """
    closed = path.read_bytes()
    open_ = bytearray(closed[: len(closed) - lose])
    open_[4:8] = open_[40:44] = bytes(4)
    path.write_bytes(open_)
    return closed


@dataclass(frozen=True)
class Sound:
    """A finished file, read back."""

    samples: NDArray[np.float32]
    rate: int
    format: str

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def level(self, side: int, hz: float) -> float:
        """How loud a tone is on one side, in dB under full scale."""
        samples = self.samples[:, side]
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) * 4 / len(samples)
        near = np.abs(np.fft.rfftfreq(len(samples), 1 / self.rate) - hz) < 5
        return float(20 * np.log10(spectrum[near].max() + 1e-9))

    def loudness(self, side: int) -> float:
        return float(20 * np.log10(np.sqrt((self.samples[:, side] ** 2).mean()) + 1e-9))


def sound_of(path: Path) -> Sound:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return Sound(samples, rate, soundfile.info(path).format)


def assert_apart(sound: Sound, caller: bool = True, callee: bool = True) -> None:
    """Left holds the caller's tone and nothing of the callee's, right the other way round; no ringing."""
    for side, own, other, there in ((0, CALLER_HZ, CALLEE_HZ, caller), (1, CALLEE_HZ, CALLER_HZ, callee)):
        if there:
            assert -16 < sound.level(side, own) < -8
        else:
            assert sound.loudness(side) < -70
        assert sound.level(side, other) < -60  # 50 dB under its own
        assert sound.level(side, RINGING_HZ) < -60


class Journal:
    """What has been logged, as it is logged."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    def __call__(self, _logger: Any, _method: str, entry: MutableMapping[str, Any]) -> Any:
        self.entries.append(dict(entry))
        self._news.set()
        raise structlog.DropEvent

    def of(self, text: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["event"] == text]

    async def heard(self, text: str, count: int = 1) -> list[dict[str, Any]]:
        """Waits until something has been logged so often."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.of(text)) < count:
                self._news.clear()
                await self._news.wait()
        return self.of(text)


def settings_in(folder: Path, **changes: Any) -> RecordingSettings:
    values: dict[str, Any] = {
        "folder": folder / "kept",
        "raw_folder": folder / "raw",
        "format": "wav",
        "keep_days": 7,
        "concurrency": 2,
        "retry_s": [0.05, 0.05, 0.05],
        "time_limit_s": 20,
    }
    return RecordingSettings(**values | changes)


class Studio:
    """An installation with a database, a place for files, and finishers at work on it."""

    def __init__(self, folder: Path, url: str, hold_s: float = 30.0, **changes: Any) -> None:
        self.url = url
        self.settings = settings_in(folder, **changes)
        self.clock = Clock()
        self.database = Database(url)
        self.raw = RawRecordings(self.settings.raw_folder)
        self.raw.folder.mkdir(exist_ok=True)
        self.store = LocalStore(self.settings.folder)
        self.woken = 0
        self.means = self._means(hold_s)
        self.retention = Retention(self.database, self.settings, self.clock, self.raw, self.store)
        self._running: list[asyncio.Task[None]] = []

    def open(self, hold_s: float = 30.0) -> Finisher:
        """Set a finisher to work, the first with `self.means`."""
        if self._running:
            self.means = self._means(hold_s)
        finisher = Finisher(self.means)
        self._running.append(asyncio.create_task(finisher.run()))
        return finisher

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._running = []

    def sing(self, call_id: str, seconds: float, ringing: float = 0.5) -> None:
        """Raw files of a call: ringing for the caller, then both talk at once."""
        write_raw(self.raw.said(call_id), silence(ringing), tone(CALLER_HZ, seconds))
        write_raw(self.raw.heard(call_id), tone(RINGING_HZ, ringing), tone(CALLEE_HZ, seconds))

    async def owe(self, call_id: str, talk_ms: int, at: int | None = None, **changes: Any) -> None:
        """A call that is over and is owed a recording."""
        call, now, plan = call_named(call_id, **changes), self.clock.now_ms(), Plan(30, 60, 60, 1800)

        def work(connection: Any) -> None:
            add_call(connection, call, CallState(now, plan))
            save_step(connection, call, CallState(now, plan, ended_at=now), [], None, now)
            add_recording(connection, call_id, call.app_id, talk_ms, now if at is None else at)

        await self.database.write(work)

    async def row(self, call_id: str) -> Recording:
        found = await self.database.read(lambda connection: find_recording(connection, call_id))
        assert found is not None
        return found

    async def pushed(self) -> list[dict[str, Any]]:
        """The recording pushes that are owed: their columns, and their body as `said`."""
        query = select(pushes).where(pushes.c.kind == "recording").order_by(pushes.c.id)
        rows = await self.database.read(lambda connection: connection.execute(query).mappings().all())
        return [dict(row) | {"said": json.loads(row["body"])} for row in rows]

    def file_of(self, recording: Recording) -> Path:
        assert recording.key is not None
        return self.settings.folder / recording.key

    def raw_files(self) -> list[str]:
        return sorted(path.name for path in self.raw.folder.iterdir())

    def making(self) -> list[Path]:
        return list((self.settings.folder / ".making").glob("*"))

    def _means(self, hold_s: float) -> Means:
        return Means(
            self.database,
            self.settings,
            self.clock,
            self.raw,
            self.store,
            WireNotifier(),
            BASE_URL,
            self._pushes_owed,
            hold_s=hold_s,
        )

    def _pushes_owed(self) -> None:
        self.woken += 1


def call_named(call_id: str, **changes: Any) -> Call:
    values: dict[str, Any] = {
        "call_id": call_id,
        "app_id": "1400000001",
        "request_id": "r-1",
        "caller": "+8613800138000",
        "callee": "+8675586013388",
        "caller_display": "02131264133",
        "callee_display": "02131264133",
        "caller_trunk": "carrier",
        "callee_trunk": "carrier",
        "max_talk_s": 1800,
        "accepted_at": 1_763_817_738_000,
        "record_url": HOOK,
        "record": True,
    }
    return Call(**values | changes)
