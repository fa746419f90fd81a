"""An app's share of a node: instances and memory, starts included; idle ones of the same app give way."""

from __future__ import annotations

import asyncio

import pytest

from faas.errors import NoRoom
from faas.policy.quota import Quota
from tests.support import wait_until
from tests.unit.node.conftest import Room

MIB = 1 << 20


def limit(room: Room, quota: Quota) -> None:
    room.starts.shares._quota_of = lambda app: quota if app == "default" else Quota()


async def test_a_burst_stays_within_the_quota(room: Room) -> None:
    limit(room, Quota(instances=2))
    room.script.start_delay = 0.05
    function = room.function(max=10)
    replies = await asyncio.gather(*(room.call(function) for _ in range(20)))
    assert len(replies) == 20, "they wait for a slot, nobody fails"
    assert len(room.pool(function).instances) <= 2


async def test_idle_ones_of_the_app_give_way(room: Room) -> None:
    limit(room, Quota(memory=512 * MIB))
    first, second, third = (room.function(name) for name in ("first", "second", "third"))
    for function in (first, second, third):
        assert (await room.call(function, b"x")).body == b"x"
    assert room.starts.shares.use("default").memory == 512 * MIB
    assert not room.pool(first).instances, "the coldest"


async def test_when_all_are_at_work_a_new_one_is_told(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faas.node.starts.ROOM_S", 0.3)
    limit(room, Quota(instances=1))
    room.script.hang_on_calls = frozenset({1})
    busy, late = room.function("busy", timeout_s=2.0), room.function("late")
    held = asyncio.create_task(room.call(busy))
    await wait_until(lambda: room.pool(busy).in_flight == 1, 5, "it is at work")
    with pytest.raises(NoRoom, match="app default has 1 of 1 instances of its quota"):
        await room.call(late)
    with pytest.raises(Exception, match="timeout"):
        await held
    assert (await room.call(late, b"x")).body == b"x"
