"""A node that leaves: calls are taken for the grace, then refused; what it has ends; it can come back."""

from __future__ import annotations

import asyncio

import pytest

from faas.errors import Unavailable
from faas.node.leaving import Leaving
from tests.support import wait_until
from tests.unit.node.conftest import Room


def told(room: Room) -> bool:
    """It says that it leaves."""
    return room.dispatcher.leaving


async def test_grace_refusal_end_and_return(room: Room) -> None:
    room.script.hang_on_calls = frozenset({3})
    function = room.function(min=1, timeout_s=2.0, concurrency=4)
    await room.call(function)
    async with Leaving(room.dispatcher, room.starts) as leaving:
        leaving.cancel()
        leaving.begin(0.3)
        leaving.begin(0.3)
        assert told(room)
        assert (await room.call(function, b"x")).body == b"x", "still taken"
        held = asyncio.create_task(room.call(function))
        await wait_until(lambda: room.dispatcher.closing, 5, "the grace is over")
        with pytest.raises(Unavailable, match="this node is drained"):
            await room.call(function)
        with pytest.raises(Unavailable, match="this node is drained"):
            await room.dispatcher.prepare(function, function.versions[1])
        nested = await room.call(function, b"from inside", kind="call")
        assert nested.body == b"from inside", "what runs may still call"
        assert room.pool(function).in_flight == 1, "what began goes on"
        with pytest.raises(Exception, match="timeout"):
            await held
        await wait_until(lambda: not room.dispatcher.instances(), 10, "nothing is left, not even min")
        leaving.cancel()
        assert not told(room)
        await wait_until(lambda: room.pool(function).ready == 1, 5, "min is back")
        assert (await room.call(function, b"y")).body == b"y"


async def test_stopping_wins(room: Room) -> None:
    async with Leaving(room.dispatcher, room.starts) as leaving:
        leaving.begin(60)
    await room.dispatcher.drain(0)
    with pytest.raises(Unavailable, match="stopping"):
        await room.call(room.function())
