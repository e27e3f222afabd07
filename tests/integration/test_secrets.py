"""What is secret stays so: nothing of it in the log of a whole stack, and no file that others may read."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from pathlib import Path

from huibo.sandbox.carrier import Account, Terms
from huibo.stack.ports import free_in_both
from huibo.stack.stack import Stack
from tests.integration.cli import huibo
from tests.integration.conftest import StartStack
from tests.integration.customer import Customer

TRUNK_PASSWORD = "trunk-password-7f3a9c"
WRONG_PASSWORD = "wrong-password-51bd07"
URL_ID = "url-id-94e1c2d7"
PUSH_PATH = "path-with-token-c0ffee77"
KEY = "idempotency-key-a1b2c3"
FAKE_TOKEN = "hb_0123456789ab_not-a-token-of-yours"
ACCOUNT = Terms(account=Account("line-7", TRUNK_PASSWORD, register=True))


async def test_the_log_of_a_stack_names_no_secret_and_no_number(own: StartStack) -> None:
    stack, customer = await own(more_carriers={"locked": ACCOUNT}, settings={"abuse": {"refusals": 5}})
    secrets, numbers = {TRUNK_PASSWORD, WRONG_PASSWORD, URL_ID, PUSH_PATH, KEY, FAKE_TOKEN}, set[str]()
    secrets |= await _operate(stack)
    config = stack.settings_file.read_text()
    secrets |= set(re.findall(r'^password = "(.+)"$', config, re.MULTILINE))
    assert len(secrets) >= 9
    await _call(stack, customer, numbers)
    await _ask_badly(stack, customer, numbers)
    await stack.control_child.stop()
    await stack.control_child.start()
    await customer.until_ready()
    said = stack.log.read_text()
    for event in ("push failed", "request refused", "token refused"):  # what could give them away was logged
        assert event in said, event
    assert [secret for secret in secrets if secret in said] == []
    assert [number for number in numbers if number in said] == []
    for line in said.splitlines():
        assert isinstance(json.loads(line), dict)
    engine = (stack.folder / "engine.log").read_text(errors="replace")
    assert [secret for secret in secrets if secret in engine] == []


async def _operate(stack: Stack) -> set[str]:
    """An operator's day; returns the secrets that were made in it."""
    made = set()
    line = f"{free_in_both()}"
    commands = (
        (
            "trunk",
            "add",
            "wrong",
            "--host=127.0.0.1",
            "--port",
            line,
            "--username=u",
            "--priority=9",
            "--password",
            WRONG_PASSWORD,
        ),
        ("app", "set", "demo", f"url-id={URL_ID}"),
        ("token", "add", "night", "--role", "admin"),
        ("secret", "rotate", "demo"),
    )
    for command in commands:
        done = await huibo(stack, *command)
        assert done.code == 0, done.err
        made |= set(re.findall(r"\b(?:hb_|whsec_)\S{20,}", done.out))
    assert len(made) == 2
    return made


async def _call(stack: Stack, customer: Customer, numbers: set[str]) -> None:
    """A call whose pushes arrive, one whose pushes fail, one over a carrier that says no."""
    path = f"/201511v3/callBack?id={URL_ID}"
    refusing = f"http://127.0.0.1:{free_in_both()}/{PUSH_PATH}?key={PUSH_PATH}"
    for src, dst, urls in (
        ("13812345600", "13912345601", {}),
        ("13823456700", "13923456701", {"statusUrl": refusing, "hangupUrl": refusing}),
        ("13834567800", "13934567806", {}),
    ):
        numbers |= {src, dst}
        asked = customer.request(src, dst, record="1") | urls
        headers = {"Idempotency-Key": KEY + src}
        async with customer.http.post(customer.base_url + path, json=asked, headers=headers) as answer:
            told = json.loads(await answer.read())
        assert told["errorCode"] == "0", told
        if not urls:
            placed = customer.calls[told["callId"]]
            placed.call_id = told["callId"]
            await placed.cdr()
            if dst.endswith("01"):
                await placed.recording()
        else:
            await _until_logged(stack, "push failed")


async def _until_logged(stack: Stack, event: str) -> None:
    async with asyncio.timeout(60):
        while event not in stack.log.read_text():
            await asyncio.sleep(0.1)


async def _ask_badly(stack: Stack, customer: Customer, numbers: set[str]) -> None:
    """What strangers and broken clients send."""
    number = "13898765432"
    numbers.add(number)
    for path, body in (
        (f"/201511v3/callBack?id={URL_ID}x", customer.request(number, number)),
        (f"/201511v3/callBack?id={URL_ID}", customer.request(number, number)),
        (f"/201511v3/{number}?id={URL_ID}", customer.request(number, number)),
        (f"/201511v3/callBack?id={URL_ID}", {"appId": number, "src": f"0086{number}"}),
        (f"/201511v3/callBack?id={URL_ID}", f'{{"{number}": "{FAKE_TOKEN}"'.encode()),
    ):
        assert (await customer.post(body, path))["errorCode"] != "0"
    for header in (f"Bearer {FAKE_TOKEN}", f"Basic {FAKE_TOKEN}"):
        url = f"{stack.base_url}/v1/calls?number={number}"
        async with customer.http.get(url, headers={"Authorization": header}) as answer:
            assert answer.status == 401


async def test_what_huibo_keeps_is_its_owners_alone(own: StartStack) -> None:
    stack, customer = await own()
    call = await customer.call("13800000100", "13900000101", record="1")
    await call.recording()
    kept = [stack.folder / "recordings", *stack.folder.glob("huibo.sqlite3*"), stack.settings_file]
    kept += list((stack.folder / "recordings").rglob("*"))
    files = [path for path in kept if path.is_file()]
    assert len(files) >= 3
    assert any(path.suffix == ".mp3" for path in files)
    assert {str(path): oct(_mode(path)) for path in files if _mode(path) & 0o177} == {}
    assert {str(path): oct(_mode(path)) for path in kept if path.is_dir() and _mode(path) & 0o077} == {}


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
