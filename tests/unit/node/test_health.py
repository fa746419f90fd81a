"""Instances that hang are found by their silence and replaced; those that only work are left alone."""

from __future__ import annotations

import asyncio

import pytest

from faas.node.health import LIMIT_BEATS, PING_BEATS
from tests.support import wait_until
from tests.unit.node.conftest import Room


async def beats(room: Room, number: int) -> None:
    """So many of the reaper's seconds, with time for answers in between."""
    for beat in range(number):
        room.reaper.beat(beat * PING_BEATS)  # every one of them is a ping's turn
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", ["sync", "threads", "async"])
async def test_an_idle_instance_that_hangs_is_replaced(room: Room, mode: str) -> None:
    room.script.mode = mode  # type: ignore[assignment]
    function = room.function(min=1)
    await room.call(function)
    (first,) = room.pool(function).instances
    await beats(room, LIMIT_BEATS + 2)
    assert list(room.pool(function).instances) == [first], "it answers"
    room.script.mute = True
    await beats(room, LIMIT_BEATS)
    assert list(room.pool(function).instances) == [first], "not yet"
    await beats(room, 1)
    room.script.mute = False
    await wait_until(lambda: room.pool(function).ready == 1, 5, "its replacement is ready")
    assert list(room.pool(function).instances) != [first]
    assert "did not answer" in room.pool(function).last_error.message  # type: ignore[union-attr]
    assert (await room.call(function, b"again")).body == b"again"


async def test_calls_of_one_that_hangs_have_their_time_and_others_go_elsewhere(room: Room) -> None:
    room.script.mode = "async"
    room.script.hang_on_calls = frozenset({2})
    function = room.function(max=1, concurrency=4, timeout_s=1.0)
    await room.call(function)
    (first,) = room.pool(function).instances
    held = asyncio.create_task(room.call(function))
    await wait_until(lambda: room.pool(function).in_flight == 1, 5, "a call hangs")
    room.script.mute = True
    await beats(room, LIMIT_BEATS + 1)
    room.script.mute = False
    assert (await asyncio.wait_for(room.call(function, b"elsewhere"), 5)).body == b"elsewhere"
    assert len(room.pool(function).instances) == 2, "one more than max, as the first serves nobody"
    with pytest.raises(Exception, match="timeout of 1 s"):
        await held
    await wait_until(lambda: first not in room.pool(function).instances, 10, "the first is gone")


async def test_a_busy_sync_instance_is_not_asked(room: Room) -> None:
    room.script.mode = "sync"
    room.script.mute = True
    room.script.hang_on_calls = frozenset({1})
    function = room.function(timeout_s=1.0)
    held = asyncio.create_task(room.call(function))
    await wait_until(lambda: room.pool(function).in_flight == 1, 5, "it runs")
    await beats(room, LIMIT_BEATS * 2)
    assert room.pool(function).ready == 1
    with pytest.raises(Exception, match="timeout of 1 s"):
        await held
