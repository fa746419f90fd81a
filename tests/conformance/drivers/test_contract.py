"""What every driver must do, whatever starts its instances."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from faas.errors import Conflict, NotFound, Unavailable
from faas.ids import new_id
from faas.wire import messages as m
from tests.conformance.drivers.bench import RUNTIME, Bench
from tests.conformance.drivers.conftest import make


async def test_a_started_instance_says_hello_on_both_connections(bench: Bench) -> None:
    async with bench.guest() as guest:
        assert guest.inside is not None
        assert guest.inside.uid == bench.driver.uid
        assert set(guest.hellos) == {"control", "data"}
        guest.say("control", m.ping(7))
        assert (await guest.hear(m.PONG))[1] == 7


async def test_it_knows_the_runtime_it_starts(bench: Bench) -> None:
    assert RUNTIME in await bench.driver.runtimes()


@pytest.mark.parametrize("name", ["cobol85", "", "../../etc/passwd", "Python3.11"])
async def test_an_unknown_runtime_is_not_found_and_says_what_there_is(bench: Bench, name: str) -> None:
    spec = bench.spec(runtime=name)
    with pytest.raises(NotFound, match=r"python3\.11"):
        await bench.driver.start(spec)
    assert [one for one in await bench.driver.found() if one.id == spec.id] == []
    await bench.driver.destroy(spec.id)


async def test_the_same_id_twice_is_a_conflict_and_the_first_lives_on(bench: Bench) -> None:
    async with bench.guest() as guest:
        with pytest.raises(Conflict):
            await bench.driver.start(guest.spec)
        guest.say("control", m.ping(1))
        await guest.hear(m.PONG)


async def test_wait_returns_when_the_supervisor_ends(bench: Bench) -> None:
    async with bench.guest() as guest:
        waiting = asyncio.create_task(bench.driver.wait(guest.id))
        guest.links["control"].close()  # what a node that dies looks like
        exit = await asyncio.wait_for(waiting, 15)
        assert not exit.oom
        assert await asyncio.wait_for(bench.driver.wait(guest.id), 5) == exit


async def test_wait_ends_when_the_instance_is_destroyed(bench: Bench) -> None:
    async with bench.guest() as guest:
        waiting = asyncio.create_task(bench.driver.wait(guest.id))
        await asyncio.sleep(0)
        await bench.driver.destroy(guest.id)
        exit = await asyncio.wait_for(waiting, 5)
        assert not exit.oom
        assert exit.signal == 9


async def test_wait_for_an_unknown_instance_returns_at_once(bench: Bench) -> None:
    exit = await asyncio.wait_for(bench.driver.wait(new_id("i")), 5)
    assert "gone" in exit.detail


async def test_a_cancelled_wait_disturbs_nobody(bench: Bench) -> None:
    async with bench.guest() as guest:
        first, second = (asyncio.create_task(bench.driver.wait(guest.id)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not second.done()
        await bench.driver.destroy(guest.id)
        assert (await asyncio.wait_for(second, 5)).signal == 9


async def test_destroy_is_idempotent_and_may_be_called_by_many(bench: Bench) -> None:
    async with bench.guest() as guest:
        await asyncio.gather(*(bench.driver.destroy(guest.id) for _ in range(3)))
        await bench.driver.destroy(guest.id)
        assert guest.id not in {one.id for one in await bench.driver.found()}
    await bench.driver.destroy(new_id("i"))


async def test_found_lists_id_node_and_age(bench: Bench) -> None:
    async with bench.guest() as guest:
        mine = [one for one in await bench.driver.found() if one.id == guest.id]
        assert [one.node for one in mine] == [bench.node]
        assert 0 <= mine[0].age_s < 60


async def test_limits_change_where_that_is_promised(bench: Bench) -> None:
    async with bench.guest() as guest:
        if not bench.driver.capabilities.resize:
            with pytest.raises(Unavailable, match="limits"):
                await bench.driver.resize(guest.id, memory=512 << 20, cpu=0.5)
            return
        await bench.driver.resize(guest.id, memory=512 << 20, cpu=0.5)
        await bench.driver.resize(guest.id, memory=128 << 20, cpu=2.0)
        guest.say("control", m.ping(2))
        await guest.hear(m.PONG)


async def test_usage_is_of_this_instance(bench: Bench) -> None:
    async with bench.guest() as guest:
        usage = await bench.driver.usage(guest.id)
        assert usage is not None
        assert 1 << 20 < usage.memory < 256 << 20
        assert usage.cpu_s >= 0
    assert await bench.driver.usage(guest.id) is None


async def test_eight_at_once(bench: Bench) -> None:
    async def one() -> str:
        async with bench.guest() as guest:
            return guest.id

    ids = await asyncio.gather(*(one() for _ in range(8)))
    assert len(set(ids)) == 8
    assert not {found.id for found in await bench.driver.found()} & set(ids)


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.05])
async def test_a_cancelled_start_leaves_nothing(bench: Bench, after_s: float) -> None:
    async with bench.listening(bench.spec()) as guest:
        starting = asyncio.create_task(bench.driver.start(guest.spec))
        await asyncio.sleep(after_s)
        starting.cancel()
        await asyncio.wait([starting])
        await bench.driver.destroy(guest.id)
        assert guest.id not in {one.id for one in await bench.driver.found()}


async def test_leaving_the_driver_right_after_a_cancelled_start_leaves_nothing(kind: str, data_dir: Path) -> None:
    node = new_id("n")
    async with make(kind, node, data_dir) as driver:
        bench = Bench(driver, data_dir, node)
        spec = bench.spec()
        starting = asyncio.create_task(driver.start(spec))
        await asyncio.sleep(0.01)
        starting.cancel()
        await asyncio.wait([starting])
    async with make(kind, node, data_dir) as driver:
        assert [one for one in await driver.found() if one.id == spec.id] == []


async def test_check_says_something_about_everything(bench: Bench) -> None:
    findings = await bench.driver.check()
    assert findings
    assert all(what and finding for what, _, finding in findings)


async def test_starting_does_not_block_the_loop(bench: Bench) -> None:
    longest, last, stop = 0.0, time.perf_counter(), False

    async def tick() -> None:
        nonlocal longest, last
        while not stop:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    ticking = asyncio.create_task(tick())
    async with bench.guest() as guest:
        await bench.driver.usage(guest.id)
        await bench.driver.found()
    stop = True
    await ticking
    assert longest < 0.25, f"the loop stood still for {longest * 1000:.0f} ms"
