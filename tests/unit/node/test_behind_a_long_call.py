"""A function whose calls were quick so far, and one that is not."""

from __future__ import annotations

import asyncio

from tests.unit.node.conftest import Room


async def test_a_single_call_behind_a_long_one_gets_an_instance_of_its_own(room: Room) -> None:
    function = room.function(concurrency=1)
    for _ in range(20):
        await room.call(function)
    pool = room.pool(function)
    assert pool.service_s is not None
    assert pool.service_s < 0.05
    room.script.hang_on_calls = frozenset({21})
    long = asyncio.create_task(room.call(function))
    await asyncio.sleep(0)
    reply = await asyncio.wait_for(room.call(function), 5)
    assert reply.status == 200
    assert len(pool.instances) == 2
    long.cancel()
    await asyncio.wait([long])
