"""Downloads from a real server over real HTTP: who gets what, which part of it, and who gets nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from recording_studio import Journal, Studio
from starlette.applications import Starlette
from yarl import URL

from huibo.config import load
from huibo.http.connections import Connections
from huibo.recording.links import LINK_SECRET, sign
from huibo.recording.routes import make_routes
from huibo.storage.migrate import migrate
from huibo.storage.recordings import Kept, due_recordings, mark_purged, mark_ready
from huibo.storage.secrets import secret
from huibo.wire.http11 import limited

pytest_plugins = ["recording_fixtures"]

CALL = "12-251122-7f1020da3bf94e19b324a613ccf3e96d"
CONTENT = os.urandom(200_000)
ETAG = f'"{sha256(CONTENT).hexdigest()}"'
SIZE = len(CONTENT)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@dataclass
class Site:
    """A server with one recording, and a client."""

    studio: Studio
    port: int
    client: aiohttp.ClientSession
    secret: bytes
    token: str

    def url(self, path: str) -> URL:
        return URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)

    async def ask(
        self, path: str | None = None, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers with names in lower case, body."""
        url = self.url(f"/recordings/{self.token}.mp3" if path is None else path)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(method, url, headers=named, allow_redirects=False) as answer:
            pairs = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, pairs, await answer.read()

    async def keep(self, call_id: str, content: bytes, form: str = "mp3") -> str:
        """One more recording; returns the path of its link."""
        expires_at = self.studio.clock.now_ms() + 60_000
        await keep(self.studio, call_id, content, form, expires_at)
        return f"/recordings/{sign(self.secret, call_id, expires_at)}.{form}"

    async def raw(self, request: bytes) -> bytes:
        """All that the server says to these bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


async def keep(studio: Studio, call_id: str, content: bytes, form: str, expires_at: int) -> None:
    """A finished recording, as an attempt leaves it."""
    await studio.owe(call_id, 60_000)
    path = studio.settings.folder / "made"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    kept = Kept(f"2025/11/22/{call_id}.{form}", form, len(content), sha256(content).hexdigest(), 60_000)
    await studio.store.put(path, kept.key)
    now = studio.clock.now_ms()
    due = await studio.database.write(lambda connection: due_recordings(connection, now, now + 60_000, 9))
    held = next(held for held in due if held.call_id == call_id)
    await studio.database.write(lambda connection: mark_ready(connection, held, kept, now, expires_at))


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    studio = Studio(folder, f"sqlite:///{folder}/recordings.sqlite3")
    migrate(studio.database.engine)
    expires_at = studio.clock.now_ms() + 3_600_000
    await keep(studio, CALL, CONTENT, "mp3", expires_at)
    key = await studio.database.write(lambda connection: secret(connection, LINK_SECRET))
    app = Starlette(routes=make_routes(studio.database, studio.store, studio.clock))
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(
        uvicorn.Config(
            app, http=limited(Connections(load().http)), lifespan="off", log_config=None, access_log=False
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(10):
        await server.up.wait()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as client:
        yield Site(studio, listener.getsockname()[1], client, key, sign(key, CALL, expires_at))
    server.should_exit = True
    async with asyncio.timeout(20):
        await running
    await studio.database.close()


async def test_the_whole_file(site: Site) -> None:
    status, headers, body = await site.ask()
    assert (status, body) == (200, CONTENT)
    assert headers.pop("date")
    assert headers.pop("server", "uvicorn") == "uvicorn"
    assert headers == {
        "accept-ranges": "bytes",
        "cache-control": "private",
        "content-disposition": f'inline; filename="{CALL}.mp3"',
        "content-length": str(SIZE),
        "content-type": "audio/mpeg",
        "etag": ETAG,
        "x-content-type-options": "nosniff",
    }


@pytest.mark.parametrize("ending", [".mp3", ".wav", ".opus", "", ".x.y", ".%20"])
async def test_the_ending_of_a_link_does_not_matter(site: Site, ending: str) -> None:
    status, headers, body = await site.ask(f"/recordings/{site.token}{ending}")
    assert (status, headers["content-type"], body) == (200, "audio/mpeg", CONTENT)


@pytest.mark.parametrize(
    ("form", "media_type"), [("opus", "audio/ogg; codecs=opus"), ("wav", "audio/wav"), ("mp3", "audio/mpeg")]
)
async def test_a_file_comes_with_its_own_type_and_name(site: Site, form: str, media_type: str) -> None:
    path = await site.keep(f"12-{form}", b"sound", form)
    _, headers, body = await site.ask(path)
    assert headers["content-type"] == media_type
    assert headers["content-disposition"] == f'inline; filename="12-{form}.{form}"'
    assert body == b"sound"


async def test_head_tells_all_but_the_content(site: Site) -> None:
    _, whole, _ = await site.ask()
    status, headers, body = await site.ask(method="HEAD", Range="bytes=0-9")  # defined for GET alone
    assert (status, body) == (200, b"")
    assert headers | {"date": ""} == whole | {"date": ""}


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99999", 0, 100_000),
        ("bytes=100000-", 100_000, SIZE),
        ("bytes=-1000", SIZE - 1000, SIZE),
        ("bytes=-999999999", 0, SIZE),
        ("bytes=199999-300000", SIZE - 1, SIZE),
        ("Bytes=65535-65536", 65_535, 65_537),
    ],
)
async def test_a_part_of_the_file(site: Site, asked: str, start: int, end: int) -> None:
    status, headers, body = await site.ask(Range=asked)
    assert (status, body) == (206, CONTENT[start:end])
    assert headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert headers["content-length"] == str(end - start)
    assert headers["etag"] == ETAG


@pytest.mark.parametrize(
    "asked",
    ["bytes=9-8", "bytes=a-b", "lines=0-1", "bytes", "", "bytes=-", "bytes=1-2-3", "bytes=0-1,4-5", "0-1"],
)
async def test_a_range_that_is_none_is_ignored(site: Site, asked: str) -> None:
    status, headers, body = await site.ask(Range=asked)
    assert (status, body) == (200, CONTENT)
    assert "content-range" not in headers


@pytest.mark.parametrize(
    "asked", ["bytes=200000-", "bytes=200000-200001", "bytes=-0", "bytes=9999999999999-"]
)
async def test_a_range_behind_the_end_is_refused(site: Site, asked: str) -> None:
    status, headers, body = await site.ask(Range=asked)
    assert (status, body) == (416, b"")
    assert headers["content-range"] == f"bytes */{SIZE}"


async def test_a_download_is_taken_up_again_only_of_the_same_file(site: Site) -> None:
    status, _, body = await site.ask(Range="bytes=100000-", If_Range=ETAG)
    assert (status, body) == (206, CONTENT[100_000:])
    for other in ('"other"', f"W/{ETAG}", "Sat, 22 Nov 2025 13:22:18 GMT", ""):
        status, headers, body = await site.ask(Range="bytes=100000-", If_Range=other)
        assert (status, body) == (200, CONTENT)
        assert "content-range" not in headers


async def test_a_client_that_has_the_file_need_not_fetch_it(site: Site) -> None:
    status, headers, body = await site.ask(If_None_Match=f'"x", {ETAG}', Range="bytes=0-1")
    assert (status, body, headers["etag"]) == (304, b"", ETAG)
    assert (await site.ask(If_None_Match='"x"'))[0] == 200


async def test_a_tampered_link_opens_nothing(site: Site) -> None:
    flipped = [
        site.token[:at] + ("A" if site.token[at] != "A" else "B") + site.token[at + 1 :] for at in (0, 20, -1)
    ]
    for token in [*flipped[:2], site.token[:-1], site.token + "A", site.token[1:], "x", CALL, "A" * 2000]:
        for method in ("GET", "HEAD"):
            status, headers, body = await site.ask(f"/recordings/{token}.mp3", method)
            assert status == 403
            assert headers["cache-control"] == "no-store"
            assert "etag" not in headers
            assert ("链接无效" in body.decode()) == (method == "GET")


async def test_an_expired_link_opens_nothing(site: Site) -> None:
    token = sign(site.secret, CALL, site.studio.clock.now_ms())
    assert (await site.ask(f"/recordings/{token}.mp3"))[0] == 403


async def test_a_link_signed_with_another_secret_opens_nothing(site: Site) -> None:
    token = sign(b"\0" * 32, CALL, site.studio.clock.now_ms() + 60_000)
    assert (await site.ask(f"/recordings/{token}.mp3"))[0] == 403


async def test_a_recording_that_is_not_there(site: Site) -> None:
    """Never owed; owed and not finished; deleted; lost from the disk."""
    later = site.studio.clock.now_ms() + 60_000
    path = await site.keep("12-lost", CONTENT)
    await site.studio.owe("12-pending", 1000)
    for call_id in ("12-never", "12-pending"):
        assert (await site.ask(f"/recordings/{sign(site.secret, call_id, later)}.mp3"))[0] == 404
    assert (await site.ask(path))[0] == 200
    (site.studio.settings.folder / "2025/11/22/12-lost.mp3").unlink()
    status, _, body = await site.ask(path)
    assert (status, "录音不存在" in body.decode()) == (404, True)
    await site.studio.database.write(lambda connection: mark_purged(connection, "12-lost"))
    assert (await site.ask(path))[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/recordings",
            "/recordings/",
            "/recordings/..",
            "/recordings/../x",
            "/recordings/%2e%2e/x",
            "/recordings//x",
        ),
        *(
            "/recordings/..%2f..%2fetc%2fpasswd",
            f"/recordings/2025/11/22/{CALL}.mp3",
            f"/recordings/{CALL}/x",
        ),
        *("/recordings/%00", "/recordings/.making", "/recordings/%2e%2e%5cx.mp3"),
    ],
)
async def test_there_is_no_list_and_no_other_way(site: Site, path: str) -> None:
    answer = await site.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    status = int(answer.split()[1])
    assert status in (307, 403, 404)
    body = answer.partition(b"\r\n\r\n")[2]
    assert CALL.encode() not in body
    assert len(body) < 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_a_recording_can_only_be_read(site: Site, method: str) -> None:
    status, headers, _ = await site.ask(method=method)
    assert status == 405
    assert set(headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert (await site.ask())[0] == 200


async def test_many_parts_put_together_are_the_file(site: Site) -> None:
    step = 33_333
    asked = [f"bytes={start}-{start + step - 1}" for start in range(0, SIZE, step)]
    parts = await asyncio.gather(*(site.ask(Range=one, If_Range=ETAG) for one in asked))
    assert {status for status, _, _ in parts} == {206}
    assert b"".join(body for _, _, body in parts) == CONTENT


async def test_a_listener_who_leaves_leaves_no_open_file(site: Site) -> None:
    big = os.urandom(30_000_000)
    link = await site.keep("12-big", big, "wav")
    path = (site.studio.settings.folder / "2025/11/22/12-big.wav").resolve()

    def open_files() -> int:
        found = 0
        for entry in Path("/proc/self/fd").iterdir():
            try:
                found += entry.resolve() == path
            except OSError:
                continue
        return found

    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1000)
    writer.write(f"GET {link} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readexactly(1000)
    assert open_files() == 1
    writer.transport.abort()
    async with asyncio.timeout(10):
        while open_files():
            await asyncio.sleep(0.01)


async def test_nothing_is_logged_that_would_open_the_recording(
    site: Site, diary: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    path = await site.keep("12-told", CONTENT)
    await site.ask(path)
    await site.ask(path, Range="bytes=0-1")
    (site.studio.settings.folder / "2025/11/22/12-told.mp3").unlink()
    assert (await site.ask(path))[0] == 404
    assert diary.of("recording is not in the store")[0]["call"] == "12-told"
    said = f"{diary.entries} {caplog.text}"
    token = path.removeprefix("/recordings/").removesuffix(".mp3")
    assert token[:20] not in said
    assert token[20:60] not in said
