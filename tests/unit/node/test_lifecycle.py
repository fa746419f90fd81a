"""Stem cells, idle to zero, retired versions, scale: what happens around calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from faas.drivers.script import Script
from faas.model import Scale
from faas.node.stems import Kind
from tests.support import wait_until
from tests.unit.node.conftest import GIB, Room, open_room


@pytest.fixture
async def stemmed(tmp_path: Path, script: Script) -> AsyncIterator[Room]:
    """A room that keeps two stem cells."""
    async with AsyncExitStack() as stack:
        room = await open_room(tmp_path, script, stems=2, memory=4 * GIB, stack=stack)
        yield room
    assert room.driver.running == []
    assert room.starts.used == 0


async def test_a_cold_start_takes_a_stem_cell_and_the_pool_is_refilled(stemmed: Room) -> None:
    stemmed.starts.stems.use(Kind("python3.11", "egress"))
    await wait_until(lambda: len(stemmed.starts.stems.cells()) == 2, 5, "two stem cells")
    before = {cell.id for cell in stemmed.starts.stems.cells()}
    function = stemmed.function()
    reply = await stemmed.call(function, b"x")
    assert reply.cold
    assert set(stemmed.pool(function).instances) <= before, "no container was started for the caller"
    await wait_until(lambda: len(stemmed.starts.stems.cells()) == 2, 5, "refilled")


async def test_an_instance_that_had_a_function_never_becomes_a_stem_cell(stemmed: Room) -> None:
    function = stemmed.function()
    await stemmed.call(function)
    used = next(iter(stemmed.pool(function).instances))
    await stemmed.starts.end(stemmed.pool(function).instances[used])
    await wait_until(lambda: len(stemmed.starts.stems.cells()) == 2, 5, "refilled")
    assert used not in {cell.id for cell in stemmed.starts.stems.cells()}
    assert used not in stemmed.driver.running


async def test_limits_other_than_a_stem_cells_are_set_before_the_code_loads(stemmed: Room) -> None:
    stemmed.starts.stems.use(Kind("python3.11", "egress"))
    await wait_until(lambda: len(stemmed.starts.stems.cells()) == 2, 5, "two stem cells")
    function = stemmed.function(memory=512 * 1024**2, cpu=2.0)
    await stemmed.call(function)
    instance = next(iter(stemmed.pool(function).instances))
    assert stemmed.driver.limits[instance] == (512 * 1024**2, 2.0)


async def test_a_dead_stem_cell_is_replaced(stemmed: Room) -> None:
    stemmed.starts.stems.use(Kind("python3.11", "egress"))
    await wait_until(lambda: len(stemmed.starts.stems.cells()) == 2, 5, "two stem cells")
    victim = stemmed.driver.running[0]
    await stemmed.driver.kill(victim)
    await wait_until(
        lambda: victim not in stemmed.driver.running and len(stemmed.starts.stems.cells()) == 2, 5, "replaced"
    )


async def test_idle_goes_to_zero_and_back(room: Room) -> None:
    function = room.function(idle_s=0.0)
    await room.call(function)
    room.reaper.expire()
    await wait_until(lambda: not room.pool(function).instances, 5, "zero")
    assert (await room.call(function, b"back")).cold


async def test_min_is_started_without_a_call_and_kept(room: Room) -> None:
    function = room.function(min=2, idle_s=0.0)
    room.dispatcher.sync({function.id.key: function})
    pool = room.pool(function)
    await wait_until(lambda: pool.ready == 2, 5, "min is there")
    room.reaper.expire()
    await wait_until(lambda: pool.ready == 2, 1, "min stays")
    await room.driver.kill(room.driver.running[0])
    await wait_until(lambda: pool.ready == 2 and len(room.driver.running) == 2, 5, "min is restored")


async def test_scale_by_hand_wins_over_the_version(room: Room) -> None:
    function = room.function(min=0, max=20)
    scaled = msgspec.structs.replace(function, scale=Scale(min=1, max=1))
    room.dispatcher.sync({function.id.key: scaled})
    pool = room.pool(scaled)
    await wait_until(lambda: pool.ready == 1, 5, "scaled up")
    assert (pool.min, pool.max) == (1, 1)
    room.dispatcher.sync({function.id.key: function})
    assert (pool.min, pool.max) == (0, 20)


async def test_a_replaced_version_stays_callable_and_then_goes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    old = room.function(number=1)
    await room.call(old)
    new = msgspec.structs.replace(
        old, aliases={"live": {2: 100}}, versions={2: msgspec.structs.replace(old.versions[1], number=2)}, latest=2
    )
    room.dispatcher.sync({new.id.key: new})
    assert (await room.call(old, b"still")).cold is False
    pool = room.pool(old)
    assert pool.retired_at is not None
    monkeypatch.setattr("faas.node.reaper.RETIRED_S", 0.0)

    def gone() -> bool:
        room.reaper.expire()
        return pool.id not in room.dispatcher.pools

    await wait_until(gone, 5, "it is gone")


async def test_a_removed_function_ends_its_instances(room: Room) -> None:
    function = room.function()
    await room.call(function)
    room.dispatcher.sync({})
    room.reaper.expire()
    await wait_until(lambda: not room.driver.running, 5, "nothing runs")


async def test_prepare_starts_one_and_the_first_call_is_warm(room: Room) -> None:
    function = room.function()
    version = function.versions[1]
    instance = await room.dispatcher.prepare(function, version)
    assert instance.info["handler"] == "fake:handler"
    assert (await room.call(function)).cold is False


async def test_a_child_that_comes_after_the_drained_one_gets_nothing(room: Room) -> None:
    function = room.function()
    await room.call(function)
    instance = next(iter(room.pool(function).instances.values()))
    await instance.drain(5)
    given = len(room.driver.inits)
    instance.on_connected()
    assert instance.state.value == "draining"
    assert len(room.driver.inits) == given


async def test_a_new_instance_joins_at_the_cold_end(room: Room) -> None:
    function = room.function(max=2)
    await room.call(function)
    pool = room.pool(function)
    warm = next(iter(pool.instances.values()))
    fresh = await room.starts.start(pool)
    assert fresh is not warm
    assert pool.take() is warm
    pool.offer(warm)
