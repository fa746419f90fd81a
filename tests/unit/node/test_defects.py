"""A defect of ours while a frame is handled costs one instance, not the pool."""

from __future__ import annotations

import asyncio

import pytest

from faas.node.pool import Pool
from tests.unit.node.conftest import Room


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
