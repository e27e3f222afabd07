"""`huibo call` on a real stack: it is placed, followed to its end, and its exit code says how it went."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path
from socket import SOCK_STREAM

import trustme

from huibo.stack import ports
from huibo.stack.stack import Stack
from tests.integration.cli import huibo, start
from tests.integration.customer import PATIENCE_S

SPOKEN = re.compile(r"they talked for (\d+) s, (\d+\.\d{5}) yuan")


async def test_a_call_is_followed_to_its_end(stack: Stack) -> None:
    assert (await huibo(stack, "rate", "add", "all", "0.6", "--plan", "cli", "--first-s", "1")).code == 0
    assert (await huibo(stack, "app", "add", "payer", "rate-plan=cli", "prepaid=yes")).code == 0
    assert (await huibo(stack, "number", "add", "02131264199", "--app", "payer")).code == 0
    argv = ("13800001000", "13900001001", "--app", "payer")
    checked = await huibo(stack, "check", *argv)
    assert (checked.code, checked.err) == (1, "")
    assert checked.out.startswith("would not go: balance says -105")
    refused = await huibo(stack, "call", *argv)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("huibo: balance (-105): ")
    assert (await huibo(stack, "account", "credit", "payer", "100")).code == 0
    checked = await huibo(stack, "check", *argv, "--json")
    assert (checked.code, checked.json["would_go"], checked.json["per_minute"]) == (0, True, 120_000)
    assert checked.json["caller_display"] == "02131264199"

    done = await huibo(stack, "call", *argv)
    assert (done.code, done.err) == (0, ""), done.out
    first, shows, *moments, last = done.out.splitlines()
    call_id = first.removeprefix("call ")
    assert shows == "the caller's phone shows 02131264199, the callee's 02131264199"
    assert [line.split(maxsplit=1)[1].split(":")[0].split(" over ")[0] for line in moments] == [
        "call    accepted",
        *(f"caller  {event}" for event in ("dialled", "invited", "ringing", "answered")),
        *(f"callee  {event}" for event in ("dialled", "invited", "ringing", "answered", "ended")),
        "caller  ended",
        "call    over",
    ]
    spoken = SPOKEN.fullmatch(last)
    assert spoken is not None, last
    assert 5 <= int(spoken[1]) <= 9

    shown = (await huibo(stack, "calls", call_id, "--json")).json
    assert f"{shown['charge'] / 100_000:.5f}" == spoken[2]
    assert await _charges(stack, "payer") == [(shown["charge"], call_id)]
    human = await huibo(stack, "calls", call_id)
    assert "caller  answered" in human.out
    listed = (await huibo(stack, "calls", "--app", "payer", "--json")).json
    assert [one["call_id"] for one in listed] == [call_id]


async def _charges(stack: Stack, app_id: str) -> list[tuple[int, str]]:
    entries = (await huibo(stack, "account", "ledger", app_id, "--json")).json
    return [(one["amount"], one["call_id"]) for one in entries if one["kind"] == "charge"]


async def test_a_call_that_comes_to_nothing_is_no_success(stack: Stack) -> None:
    done = await huibo(stack, "call", "13800001105", "13900001101", "--app", "demo")
    assert (done.code, done.err) == (1, "")
    assert "caller  ended: busy (486)" in done.out
    assert done.out.splitlines()[-1].startswith("they did not talk: ")
    as_json = await huibo(stack, "call", "13800001200", "13900001205", "--app", "demo", "--json")
    assert (as_json.code, as_json.json["result"]) == (1, "callee_unreached")


async def test_who_stops_following_leaves_the_call_alone(stack: Stack) -> None:
    process = await start(stack, "call", "13800001300", "13900001300", "--app", "demo")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            call_id = (await process.stdout.readline()).decode().strip().removeprefix("call ")
            while "callee  answered" not in (await process.stdout.readline()).decode():
                assert process.returncode is None
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode == 1
    assert err.decode() == f"not followed any longer; the call goes on: `huibo calls {call_id}` shows it\n"
    shown = (await huibo(stack, "calls", call_id, "--json")).json
    assert (shown["progress"], shown["ended_at"]) == ("talking", None)


async def test_what_cannot_be_is_told(stack: Stack) -> None:
    bad = await huibo(stack, "call", "110", "13900001101", "--app", "demo")
    assert (bad.code, bad.out) == (1, "")
    assert bad.err.startswith("huibo: caller: not a Chinese mobile or landline number")
    unknown = await huibo(stack, "call", "13800001400", "13900001401", "--app", "nobody")
    assert unknown.code == 1
    assert unknown.err.startswith("huibo: app (-401): ")


async def test_health_is_that_of_the_running_server(stack: Stack) -> None:
    done = await huibo(stack, "health")
    assert (done.code, done.err) == (0, "")
    assert stack.base_url in done.out
    found = (await huibo(stack, "health", "--json")).json
    assert found["ok"] is True
    assert "sandbox" in [trunk["name"] for trunk in found["trunks"]]  # others may have been entered meanwhile


async def test_tokens_for_it_are_of_minutes_and_no_more_than_needed(stack: Stack) -> None:
    for argv, role in ((("health",), "viewer"), (("call", "110", "110", "--app", "x"), "operator")):
        await huibo(stack, *argv)
        newest, *_ = (await huibo(stack, "token", "list", "--json")).json
        assert (newest["name"], newest["role"]) == (f"huibo {argv[0]}", role)
        assert newest["expires_at"] - newest["created_at"] <= 300_000


async def test_a_server_that_speaks_tls_is_asked_over_tls(tmp_path: Path) -> None:
    """By the certificate that is configured, whatever name it is made out to. It needs no engine for that."""
    authority = trustme.CA()
    leaf = authority.issue_cert("call.example.com")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    (port,) = ports.free(SOCK_STREAM)
    settings = {
        "HUIBO_DATABASE_URL": f"sqlite:///{tmp_path}/huibo.sqlite3",
        "HUIBO_ENGINE__URL": "http://127.0.0.1:1",
        "HUIBO_HTTP__PORT": str(port),
        "HUIBO_HTTP__TLS_CERTIFICATE": str(certificate),
        "HUIBO_HTTP__TLS_KEY": str(key),
        "HUIBO_PROMPTS__FOLDER": str(tmp_path / "prompts"),
        "HUIBO_RECORDING__FOLDER": str(tmp_path / "recordings"),
        "HUIBO_RECORDING__RAW_FOLDER": str(tmp_path / "raw"),
    }
    server = await start(None, "serve", **settings)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while (done := await huibo(None, "health", "--json", **settings)).err.startswith(
                "huibo: no huibo"
            ):
                assert server.returncode is None
        assert (done.code, done.err, done.json["ok"]) == (1, "", False)
        another = trustme.CA().issue_cert("call.example.com")
        certificate.write_bytes(another.cert_chain_pems[0].bytes())
        distrusted = await huibo(None, "health", **settings)
        assert distrusted.err.startswith(f"huibo: no huibo answers at 127.0.0.1:{port} (")
        assert "certificate" in distrusted.err
    finally:
        server.terminate()
        await server.communicate()
