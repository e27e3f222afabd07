"""What an app's own settings let its parties hear: ringing, or the network."""

from __future__ import annotations

import asyncio

from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneMoment
from huibo.sandbox.tones import RINGBACK_HZ, dominant
from huibo.stack.stack import Stack
from tests.integration.conftest import StartStack
from tests.integration.test_siblings import huibo

INFORMATION_TONE = {950, 1400, 1800}
WARNING_HZ = 950


async def heard_by(stack: Stack, number: str) -> set[int]:
    """The tones that a phone heard, to 10 Hz, once its recording is closed."""
    async for event in journal.follow(stack.carrier.calls_log):
        if event.number == number and event.event is PhoneMoment.HUNG_UP:
            break
    file = next(e.heard for e in journal.read(stack.carrier.calls_log) if e.number == number and e.heard)
    return {round(one.hz, -1) for one in dominant(stack.carrier.heard_dir / file) if one.hz is not None}


async def test_what_an_app_lets_its_callers_hear_before_the_answer(own: StartStack) -> None:
    stack, customer = await own()
    for index, sound in enumerate(("all", "none", "fail")):
        await huibo(stack, "app", "add", sound)
        await huibo(stack, "app", "set", sound, f"ring-sound={sound}", "callee-ring-s=9")
        await huibo(stack, "number", "add", f"0213126410{index}", "--app", sound)
    heard = {}
    for index, sound in enumerate(("all", "none", "fail")):
        for phone in ("08", "03"):  # 183 with an announcement, and no 180; 180 for 5 s
            caller, callee = f"138000{index}{phone}02", f"1390000{index}0{phone}"
            request = customer.request(caller, callee) | {"appId": sound}
            answer = await customer.post(request, f"/201511v3/callBack?id={sound}")
            assert answer["errorCode"] == "0", answer
            heard[sound, phone] = asyncio.create_task(heard_by(stack, caller))
    announced = {
        sound: bool(await heard[sound, "08"] & INFORMATION_TONE) for sound in ("all", "none", "fail")
    }
    assert announced == {"all": True, "none": False, "fail": True}
    for sound in ("all", "none", "fail"):
        assert RINGBACK_HZ in await heard[sound, "03"]
