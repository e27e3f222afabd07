"""What cells tell each other through the database: who lives, whose a call is, who attempts a push."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import OperationalError

from huibo.cells import Cells
from huibo.clock import Clock
from huibo.config import CellSettings
from huibo.flow.live import LiveCalls
from huibo.flow.machine import step
from huibo.flow.runner import Services
from huibo.flow.state import CallState, Finish, Start, Tick
from huibo.model import CancelUnless, Push
from huibo.storage import cells
from huibo.storage.calls import NotOurs, add_call, find_cdr, save_step, unfinished
from huibo.storage.cells import Answer, Cell
from huibo.storage.database import Database
from huibo.storage.notices import Listener
from huibo.storage.outbox import (
    DELIVERED,
    PENDING,
    Handed,
    Lease,
    Verdict,
    add_pushes,
    due_pushes,
    end_leases,
    save_verdicts,
    waiting,
)
from huibo.storage.recordings import add_recording, due_recordings
from huibo.storage.tenure import Taken, Tenure
from tests.conformance.test_calls import ACCEPTED, PLAN, call_of, fresh_id

ONE = Cell("one", "http://one", "0.1", engine_ready=True, live_calls=3)
TWO = Cell("two", "http://two", "0.1", engine_ready=False, live_calls=0)
NOW = 1_763_817_738_000


async def test_a_cell_lives_while_it_says_so(database: Database) -> None:
    await database.write(lambda connection: cells.beat(connection, ONE))
    await database.write(lambda connection: cells.beat(connection, TWO))
    await database.write(lambda connection: cells.beat(connection, replace(ONE, live_calls=4)))
    one, two = await database.read(cells.list_cells)
    assert (one.name, one.live_calls, one.engine_ready) == ("one", 4, True)
    assert (two.name, two.engine_ready) == ("two", False)
    assert 0 <= one.silent_ms <= two.silent_ms < 60_000
    await database.write(lambda c: c.execute(text("UPDATE cells SET seen_at = seen_at - 100000")))
    assert (await database.read(cells.list_cells))[0].silent_ms >= 100_000


async def carried(database: Database, cell: str) -> str:
    call = replace(call_of(fresh_id()), cell=cell)
    await database.write(lambda connection: add_call(connection, call, CallState(ACCEPTED, PLAN)))
    return call.call_id


async def test_only_the_calls_of_silent_cells_are_taken_over_and_only_once(database: Database) -> None:
    for cell in (ONE, TWO):
        await database.write(lambda connection, cell=cell: cells.beat(connection, cell))
    mine, living = await carried(database, "three"), await carried(database, "two")
    dead, unknown = await carried(database, "one"), await carried(database, "never seen")
    await database.write(
        lambda c: c.execute(text("UPDATE cells SET seen_at = seen_at - 61000 WHERE name = 'one'"))
    )

    def take(connection: Connection) -> list[str]:
        taken = cells.take_over(connection, "three", 60_000, 10)
        assert all(call.cell == "three" for call, _ in taken)
        return [call.call_id for call, _ in taken]

    assert set(await database.write(take)) == {dead, unknown}
    assert await database.write(take) == []
    found = await database.read(lambda connection: unfinished(connection, "three"))
    assert {call.call_id for call, _ in found} == {mine, dead, unknown}
    assert await database.read(lambda c: cells.carrier_of(c, living)) == "two"
    assert await database.read(lambda c: cells.carrier_of(c, "nonsense")) is None


async def test_a_renamed_cell_keeps_what_is_not_over(database: Database) -> None:
    live, over, recorded = [await carried(database, "old") for _ in range(3)]
    for call_id in (over, recorded):
        await database.write(
            lambda c, call_id=call_id: c.execute(
                text("UPDATE calls SET ended_at = 5 WHERE call_id = :id"), {"id": call_id}
            )
        )
    await database.write(lambda connection: add_recording(connection, recorded, "app", 1000, NOW))
    await database.write(lambda connection: cells.inherit(connection, "new"))
    found = await database.read(lambda connection: unfinished(connection, "new"))
    assert [call.call_id for call, _ in found] == [live]
    assert await database.write(lambda c: due_recordings(c, NOW, NOW + 1, 9, "old")) == []
    (due,) = await database.write(lambda c: due_recordings(c, NOW, NOW + 1, 9, "new"))
    assert due.call_id == recorded


async def test_what_is_over_is_not_looked_at_for_an_inheritance(database: Database) -> None:
    if database.shared:
        pytest.skip("there is nothing to inherit: other processes may live")
    asked: list[tuple[str, Any]] = []

    def note(_connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    await database.write(lambda connection: cells.inherit(connection, "new"))
    event.remove(database.engine, "before_cursor_execute", note)
    updates = [one for one in asked if one[0].startswith("UPDATE calls")]
    assert updates
    with database.engine.connect() as connection:
        for statement, parameters in updates:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            looked_at = [row[3] for row in plan if " calls" in row[3]]
            assert looked_at
            assert all(" USING " in step for step in looked_at), looked_at


async def test_whoever_has_lost_a_call_can_store_nothing_of_it(database: Database) -> None:
    call, state = replace(call_of(fresh_id()), cell="one"), CallState(ACCEPTED, PLAN)
    await database.write(lambda connection: add_call(connection, call, state))
    await database.write(lambda connection: cells.take_over(connection, "two", 1000, 10))
    late, commands = step(call.call_id, state, Tick(ACCEPTED + 10**6))
    cdr = next(command.cdr for command in commands if isinstance(command, Finish))
    with pytest.raises(NotOurs):
        await database.write(lambda connection: save_step(connection, call, late, [], cdr, ACCEPTED))
    assert await database.read(lambda connection: find_cdr(connection, call.call_id)) is None
    taken = replace(call, cell="two")
    assert await database.write(lambda c: save_step(c, taken, late, [], cdr, ACCEPTED))
    assert await database.read(lambda connection: find_cdr(connection, call.call_id)) == cdr


async def test_a_step_whose_commit_was_not_heard_of_is_stored_once(database: Database) -> None:
    call, state = call_of(fresh_id()), CallState(ACCEPTED, PLAN)
    await database.write(lambda connection: add_call(connection, call, state))
    dialled, _ = step(call.call_id, state, Start(ACCEPTED))
    told = Push(call.call_id, "app", "status", 1, "http://192.0.2.9/s", b"{}")

    def store(again: bool) -> Callable[[Connection], Handed | None]:
        return lambda connection: save_step(connection, call, dialled, [told], None, ACCEPTED, again)

    assert await database.write(store(again=True))  # the first try had failed after all
    assert not await database.write(store(again=True))
    assert await database.read(lambda c: len(due_pushes(c, "http://192.0.2.9:80", NOW * 2, 9))) == 1


async def test_a_wish_is_answered_by_whom_it_is_for(database: Database) -> None:
    call = await carried(database, "one")
    ask = lambda c: cells.wish(c, "one", call, CancelUnless.CALLEE_RINGING, NOW)  # noqa: E731
    wish = await database.write(ask)
    assert await database.read(lambda connection: cells.wishes_of(connection, "two")) == []
    (found,) = await database.read(lambda connection: cells.wishes_of(connection, "one"))
    assert (found.id, found.call_id, found.unless) == (wish, call, CancelUnless.CALLEE_RINGING)
    assert await database.read(lambda connection: cells.answer_to(connection, wish)) is None
    await database.write(lambda connection: cells.answer(connection, wish, Answer.KEPT))
    assert await database.read(lambda connection: cells.answer_to(connection, wish)) is Answer.KEPT
    assert await database.read(lambda connection: cells.wishes_of(connection, "one")) == []
    stale = await database.write(lambda c: cells.wish(c, "one", call, CancelUnless.NEVER, NOW - 10**6))
    await database.write(lambda connection: cells.withdraw(connection, wish, NOW - 1000))
    assert await database.read(lambda connection: cells.answer_to(connection, stale)) is None
    assert await database.read(lambda connection: cells.wishes_of(connection, "one")) == []


async def test_a_push_that_one_attempts_is_nobody_elses(database: Database) -> None:
    owed = [Push(f"c{n}", "app", "cdr", 1, "http://192.0.2.9/c", b"{}") for n in range(4)]
    await database.write(lambda connection: add_pushes(connection, owed, NOW))
    where = "http://192.0.2.9:80"
    first = await database.write(lambda c: due_pushes(c, where, NOW, 3, Lease("one", NOW + 5000)))
    rest = await database.write(lambda c: due_pushes(c, where, NOW, 9, Lease("two", NOW + 5000)))
    assert len({push.id for push in first}) == 3
    assert {push.call_id for push in (*first, *rest)} == {"c0", "c1", "c2", "c3"}
    assert len(rest) == 1
    assert await database.write(lambda c: due_pushes(c, where, NOW + 4999, 9, Lease("two", NOW + 9000))) == []
    await database.write(lambda connection: end_leases(connection, ["two"]))
    assert await database.read(lambda c: due_pushes(c, where, NOW, 9)) == rest
    await database.write(lambda c: save_verdicts(c, [Verdict(first[1], DELIVERED, NOW)]))
    await database.write(lambda c: save_verdicts(c, [Verdict(first[2], PENDING, NOW + 100, "no")]))
    again = await database.read(lambda c: due_pushes(c, where, NOW + 5000, 9))  # and a dead one's run out
    assert {push.call_id for push in again} == {first[0].call_id, first[2].call_id, rest[0].call_id}
    assert [each.receiver for each in await database.read(lambda c: waiting(c, NOW))] == [where]


async def test_two_cells_claim_from_one_outbox_at_once(database: Database, database_url: str) -> None:
    owed = [Push(f"c{n}", "app", "cdr", 1, "http://192.0.2.9/c", b"{}") for n in range(60)]
    await database.write(lambda connection: add_pushes(connection, owed, NOW))
    others = [Database(database_url) for _ in range(3)]
    claims = await asyncio.gather(
        *(
            other.write(lambda c: due_pushes(c, "http://192.0.2.9:80", NOW, 5, Lease("one", NOW + 5000)))
            for other in others * 4
        )
    )
    taken = [push.id for claim in claims for push in claim]
    assert len(taken) == len(set(taken))
    assert len(taken) >= 15
    for other in others:
        await other.close()


async def test_turns_on_a_trunk_keep_its_limit_in_any_second(database: Database, database_url: str) -> None:
    others = [Database(database_url) for _ in range(2)]
    began = await database.write(cells.now_of)
    waits = await asyncio.gather(
        *(other.write(lambda c: cells.next_turn(c, "line", 3, 1050, 4000)) for other in others * 8)
    )
    ended = await database.write(cells.now_of)
    slots = sorted(wait for wait in waits if wait is not None)
    assert len(slots) >= 12  # three at once, and three in each of the windows that may be waited for
    assert waits.count(None) == len(waits) - len(slots)
    slack = ended - began  # a wait is told from the moment of its own transaction
    for n in range(len(slots) - 3):
        assert slots[n + 3] - slots[n] >= 1050 - slack
    for other in others:
        await other.close()


async def test_one_process_at_a_time_is_a_cell(database: Database, database_url: str) -> None:
    first, second = Tenure(database.engine, "one"), Tenure(Database(database_url).engine, "one")
    first.take(0)
    with pytest.raises(Taken, match="another huibo runs as cell one"):
        second.take(0.3)
    first.renew()
    waiting_for = asyncio.create_task(asyncio.to_thread(second.take, 20))
    first.end()
    await waiting_for
    with pytest.raises(Taken):
        first.take(0)
    second.end()
    if database.shared:
        first.take(20)  # the server has to notice the end of the other connection
        another = Tenure(database.engine, "two")
        another.take(0)
        another.end()
        first.end()


async def test_a_cell_whose_connection_was_lost_takes_its_right_again(
    database: Database, database_url: str
) -> None:
    if not database.shared:
        pytest.skip("the lock is on a file")
    first, second = Tenure(database.engine, "one"), Tenure(Database(database_url).engine, "one")
    first.take(0)
    name = database.engine.url.database
    others = Database(make_url(database_url).set(database="postgres").render_as_string(hide_password=False))

    def allow(yes: bool) -> None:
        with others.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {yes}"))
            if not yes:
                end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = :name"
                connection.execute(text(end), {"name": name})

    allow(False)
    for _ in range(2):  # nobody is there to ask; it does not forget what it had
        with pytest.raises(OperationalError):
            first.renew()
    allow(True)
    first.renew()
    with pytest.raises(Taken):
        second.take(0)
    allow(False)
    allow(True)
    second.take(0)  # sooner than the first came back
    with pytest.raises(Taken):
        first.renew()
    with pytest.raises(Taken):
        first.renew()
    second.end()
    await others.close()


async def test_a_connection_of_its_own_that_hangs_at_the_server_is_not_another_process(
    database: Database, database_url: str
) -> None:
    if not database.shared:
        pytest.skip("the lock is on a file")
    opened: list[int] = []
    engine = Database(database_url).engine
    event.listen(engine, "connect", lambda connection, _record: opened.append(connection.fileno()))
    tenure = Tenure(engine, "one")
    tenure.take(0)
    kept = os.dup(opened[-1])  # as far as the server knows, the connection is there
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, opened[-1])
    os.close(nothing)
    tenure.renew()
    os.close(kept)
    with pytest.raises(Taken):
        Tenure(database.engine, "one").take(0)
    tenure.end()


async def test_word_of_a_wish_goes_round_at_once(database: Database, database_url: str) -> None:
    """No cell would look by itself before a minute is over."""
    if not database.shared:
        pytest.skip("there is nobody to tell")
    settings = CellSettings(name="x", beat_s=60, lost_after_s=600, patience_s=1)
    databases = [Database(database_url) for _ in range(2)]
    listeners = [Listener(one.engine) for one in databases]
    found = []
    for name, one, listener in zip(("one", "two"), databases, listeners, strict=True):
        services = Services(*[cast(Any, None)] * 10)
        live = LiveCalls(replace(services, database=one, clock=Clock()), name)
        own = settings.model_copy(update={"name": name})
        found.append(Cells(one, Clock(), own, live, partial(replace, ONE, name=name), listener))
    runs = [listener.run() for listener in listeners] + [cell.run() for cell in found]
    tasks = [asyncio.create_task(run) for run in runs]
    async with asyncio.timeout(30):
        while not all(listener.listening for listener in listeners):
            await asyncio.sleep(0.01)
    call = await carried(database, "one")
    began = asyncio.get_running_loop().time()
    for _ in range(5):
        assert await found[1].cancel(call, CancelUnless.NEVER) is None  # nobody has it in fact
    assert asyncio.get_running_loop().time() - began < 5
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for one in databases:
        await one.close()
