"""The store in a folder: whole files or none, nobody else may read, nothing outside is touched."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from huibo.recording.store import LocalStore, key_of

KEY = "2025/11/22/12-251122-7f.mp3"
AT = 1_763_817_738_000  # 2025-11-22 13:22:18 UTC


def made(folder: Path, content: bytes = b"sound") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "made.mp3"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    return path


async def read(store: LocalStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    stored = await store.open(key)
    try:
        return b"".join([chunk async for chunk in stored.chunks(start, stored.size if end is None else end)])
    finally:
        await stored.close()


def test_a_key_is_the_day_and_the_call() -> None:
    assert key_of("12-251122-7f", AT, "mp3") == KEY


async def test_a_file_is_taken_over_and_read_back(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "kept")
    content = os.urandom(200_001)
    path = made(tmp_path / "making", content)
    await store.put(path, KEY)
    assert not path.exists()
    assert await read(store, KEY) == content
    assert await read(store, KEY, 65_530, 65_540) == content[65_530:65_540]
    assert await read(store, KEY, 200_000) == content[200_000:]


async def test_only_its_own_user_may_look(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        store = LocalStore(tmp_path / "kept")
        await store.put(made(tmp_path / "making"), KEY)
    finally:
        os.umask(mask)
    kept = tmp_path / "kept"
    folders = [kept, *(path for path in kept.rglob("*") if path.is_dir())]
    assert len(folders) == 4
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    assert stat.S_IMODE((kept / KEY).stat().st_mode) == 0o600


async def test_a_second_file_replaces_the_first_while_that_is_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "kept")
    await store.put(made(tmp_path / "making", b"first"), KEY)
    reader = await store.open(KEY)
    await store.put(made(tmp_path / "making", b"second"), KEY)
    assert [chunk async for chunk in reader.chunks(0, reader.size)] == [b"first"]
    await reader.close()
    assert await read(store, KEY) == b"second"


async def test_a_file_of_another_file_system_is_copied_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path / "kept")
    path = made(tmp_path / "making", b"x" * 100_000)
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self == path:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    kept = tmp_path / "kept" / KEY
    kept.parent.mkdir(parents=True)
    (kept.parent / f".{kept.name}.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        await store.put(path, KEY)
    assert path.exists()
    assert list(kept.parent.iterdir()) == []
    await store.put(path, KEY)
    assert await read(store, KEY) == b"x" * 100_000
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [*kept.parent.iterdir(), *path.parent.iterdir()] == [kept]


async def test_deleting_leaves_no_empty_folders_and_may_be_done_twice(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "kept")
    other = KEY.replace("22/", "23/")
    for key in (KEY, other):
        await store.put(made(tmp_path / "making"), key)
    await store.delete(KEY)
    await store.delete(KEY)
    with pytest.raises(FileNotFoundError):
        await store.open(KEY)
    assert [path.name for path in (tmp_path / "kept/2025/11").iterdir()] == ["23"]
    await store.delete(other)
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(
    "key",
    [
        *(
            "../secret",
            "2025/../../secret",
            "/etc/passwd",
            "2025/11/22/..",
            "",
            ".",
            "..",
            "a//b",
            "a/",
            "./a",
        ),
        *(".making/x.mp3", "a\\b/../c", "a/b\0c", "a/\n", "2025/11/22/.x.partial"),
    ],
)
async def test_there_is_no_way_out_of_the_folder(tmp_path: Path, key: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    store = LocalStore(tmp_path / "kept")
    path = made(tmp_path / "making")
    with pytest.raises(FileNotFoundError):
        await store.open(key)
    with pytest.raises(FileNotFoundError):
        await store.delete(key)
    with pytest.raises(FileNotFoundError):
        await store.put(path, key)
    assert path.exists()
    assert (tmp_path / "secret").read_bytes() == b"secret"


async def test_a_file_that_shrinks_under_a_reader_is_no_endless_answer(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "kept")
    await store.put(made(tmp_path / "making", b"x" * 1000), KEY)
    reader = await store.open(KEY)
    os.truncate(tmp_path / "kept" / KEY, 10)
    with pytest.raises(OSError, match="shorter"):
        [chunk async for chunk in reader.chunks(0, 1000)]
    await reader.close()
