"""Draining a cell over the API. What becomes of its calls is tested with real ones."""

from __future__ import annotations

import asyncio

from huibo.storage.tokens import Role
from tests.api.service import Service


async def readiness(service: Service) -> tuple[int, str]:
    async with service.http.get(f"{service.base_url}/readyz") as answer:
        return answer.status, (await answer.json())["reason"]


async def until_it_says(service: Service, reason: str) -> None:
    async with asyncio.timeout(10):
        while await readiness(service) != (503, reason):
            await asyncio.sleep(0.05)


async def test_a_cell_is_drained_and_takes_calls_again(service: Service) -> None:
    async with asyncio.timeout(10):  # a cell that has just begun is not listed yet
        while (await service.post("/cells/main:undrain")).status == 404:
            await asyncio.sleep(0.05)
    before = len(await service.noted("cell", "main"))
    drained = (await service.post("/cells/main:drain")).ok()
    assert (drained["name"], drained["draining"]) == ("main", True)
    await until_it_says(service, "draining")
    assert (await service.get("/health")).ok()["cells"][0]["draining"] is True
    assert (await service.post("/cells/main:drain")).ok()["draining"] is True  # once more: nothing new
    assert (await service.post("/cells/main:undrain")).ok()["draining"] is False
    await until_it_says(service, "no connection to Asterisk")
    noted = (await service.noted("cell", "main"))[before:]
    assert [one["action"] for one in noted] == ["drain", "undrain"]
    assert (noted[0]["before"]["draining"], noted[0]["after"]["draining"]) == (False, True)


async def test_only_operators_drain_and_only_cells_that_there_are(service: Service) -> None:
    (await service.post("/cells/nobody:drain")).fails(404)
    viewer = service.acting_as(service.make_token(Role.VIEWER))
    (await viewer.post("/cells/main:drain")).fails(403)
