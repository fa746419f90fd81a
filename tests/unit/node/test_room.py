"""Memory that is short, functions removed in the middle of a start, and a defect of ours: what each may cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from faas.drivers.script import Answer, Call, Script
from faas.errors import NoRoom, Unavailable
from faas.node.pool import Pool
from faas.node.stems import Kind
from tests.support import wait_until
from tests.unit.node.conftest import Room, open_room

MIB = 1024**2


async def test_stem_cells_give_way_to_a_function(tmp_path: Path, script: Script) -> None:
    async with AsyncExitStack() as stack:
        room = await open_room(tmp_path, script, stems=2, memory=600 * MIB, stack=stack)
        room.starts.stems.use(Kind("python3.11", "egress"))
        await wait_until(lambda: len(room.starts.stems.cells()) == 2, 5, "two stem cells")
        function = room.function(memory=512 * MIB)
        assert (await room.call(function, b"x")).body == b"x"
        await wait_until(lambda: len(room.driver.running) == 1, 5, "both gave way, one of them by becoming it")
        assert room.starts.used == 512 * MIB
    assert room.starts.used == 0


async def test_a_stem_cell_that_cannot_become_the_function_stays_one(tmp_path: Path, script: Script) -> None:
    async with AsyncExitStack() as stack:
        room = await open_room(tmp_path, script, stems=1, memory=300 * MIB, stack=stack)
        room.starts.stems.use(Kind("python3.11", "egress"))
        await wait_until(lambda: len(room.starts.stems.cells()) == 1, 5, "a stem cell")
        function = room.function(memory=512 * MIB)
        with pytest.raises(NoRoom, match="needs 512 MiB"):
            await room.dispatcher.prepare(function, function.versions[1])
        assert len(room.starts.stems.cells()) == 1
        assert room.starts.used == 256 * MIB


async def test_who_waits_for_memory_gets_that_of_an_instance_that_turns_idle(room: Room, script: Script) -> None:
    go = asyncio.Event()

    async def wait(call: Call) -> Answer:
        if call.body == b"wait":
            await go.wait()
        return call.body

    script.on_call = wait
    large = 3 * 1024 * MIB
    holder, other = room.function("holder", memory=large, concurrency=1), room.function("other", memory=large)
    held = asyncio.create_task(room.call(holder, b"wait"))
    await wait_until(lambda: room.pool(holder).in_flight == 1, 5, "it runs")
    waiting = asyncio.create_task(room.call(other, b"mine"))
    await wait_until(lambda: room.pool(other).waiting == 1, 5, "it waits")
    go.set()
    assert (await held).body == b"wait"
    assert (await asyncio.wait_for(waiting, 3)).body == b"mine"


async def test_min_is_started_when_a_failing_start_works_again(room: Room, script: Script) -> None:
    script.start_error = Unavailable("the engine is away")
    function = room.function(min=1)
    room.dispatcher.sync({function.id.key: function})
    pool = room.pool(function)
    await wait_until(lambda: pool.failures >= 2, 5, "starts fail")
    script.start_error = None
    await wait_until(lambda: pool.ready == 1, 5, "nobody had to call")


async def test_an_instance_for_a_removed_function_is_not_kept(room: Room, script: Script) -> None:
    script.init_delay = 0.3
    function = room.function()
    caller = asyncio.create_task(room.call(function))
    await wait_until(lambda: room.driver.running, 5, "it starts")
    room.dispatcher.sync({})
    with pytest.raises(Exception, match="was removed"):
        await caller
    await wait_until(lambda: not room.driver.running and room.starts.used == 0, 5, "nothing of it is left")


async def test_a_stop_waits_for_replies_that_stream(room: Room, script: Script) -> None:
    async def slowly(call: Call) -> Answer:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b"part "
                await asyncio.sleep(0.05)

        return parts()

    script.on_call = slowly
    reply = await room.call(room.function())
    assert reply.stream is not None
    stopping = asyncio.create_task(room.dispatcher.drain(5))
    assert b"".join([chunk async for chunk in reply.stream]) == b"part " * 5
    await stopping


async def test_an_exception_in_the_middle_of_a_frame_replaces_the_instance(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = room.function(max=1)
    await room.call(function, b"one")
    proper = Pool.slot_free

    def broken(*_: object) -> None:
        monkeypatch.setattr(Pool, "slot_free", proper)
        raise RuntimeError("a defect")

    monkeypatch.setattr(Pool, "slot_free", broken)
    assert (await room.call(function, b"two")).body == b"two"
    assert (await asyncio.wait_for(room.call(function, b"three"), 10)).body == b"three"
