"""Real stacks for the tests: engine and carrier Asterisk, control plane, a customer with a receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from huibo.engine.install.binary import Asterisk
from huibo.engine.install.resolve import resolve
from huibo.stack.receiver import receiver
from huibo.stack.stack import Stack
from tests.integration.customer import Customer

# Short enough for a test, long enough for a phone that rings 5 s on a slow machine.
QUICK = {
    "calls": {"caller_ring_s": 12, "callee_ring_s": 12, "no_audio_s": 6},
    "push": {"status_retry_s": [0.2, 0.2], "cdr_retry_s": [0.2, 0.2]},
    "engine": {"heartbeat_s": 3.0},
}

StartStack = Callable[..., Awaitable[tuple[Stack, Customer]]]


@pytest.fixture(scope="session")
def asterisk() -> Asterisk:
    return resolve()


@pytest.fixture(scope="session")
def start_stack(
    asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[AsyncExitStack], StartStack]:
    """Starts stacks that live as long as the exit stack they are given to."""

    def on(exits: AsyncExitStack) -> StartStack:
        async def start(
            settings: dict[str, dict[str, object]] | None = None, **how: Any
        ) -> tuple[Stack, Customer]:
            cache = tmp_path_factory.mktemp("s")
            stack = Stack.create(asterisk, cache, settings=QUICK | (settings or {}), **how)
            await exits.enter_async_context(stack)
            receiving = await exits.enter_async_context(receiver())
            customer = await exits.enter_async_context(Customer(stack.base_url, receiving))
            return stack, customer

        return start

    return on


@pytest.fixture(scope="session")
async def shared(
    start_stack: Callable[[AsyncExitStack], StartStack],
) -> AsyncIterator[tuple[Stack, Customer]]:
    """One stack for all tests that break nothing."""
    async with AsyncExitStack() as exits:
        yield await start_stack(exits)()


@pytest.fixture(scope="session")
def stack(shared: tuple[Stack, Customer]) -> Stack:
    return shared[0]


@pytest.fixture(scope="session")
def customer(shared: tuple[Stack, Customer]) -> Customer:
    return shared[1]


@pytest.fixture(scope="module")
async def alone(
    start_stack: Callable[[AsyncExitStack], StartStack],
) -> AsyncIterator[tuple[Stack, Customer]]:
    """One stack for the tests of a file that look at all that there is in it."""
    async with AsyncExitStack() as exits:
        yield await start_stack(exits)()


@pytest.fixture
async def own(start_stack: Callable[[AsyncExitStack], StartStack]) -> AsyncIterator[StartStack]:
    """Starts stacks for this test alone: it may kill their parts."""
    async with AsyncExitStack() as exits:
        yield start_stack(exits)
