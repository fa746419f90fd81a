"""Old versions and bundles go; what anyone needs stays."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from typing import Any

import pytest

from faas.control.collect import Collected, Collector
from faas.errors import Conflict, NotFound, Unavailable
from faas.names import FunctionName
from faas.policy.retention import Rule
from faas.store.connection import connect
from tests.support import wait_until
from tests.unit.control.world import World, phases

HELLO = FunctionName("default", "hello")


def collector(world: World, *, last: int = 3, grace_s: float = 0.0, in_use: Collection[str] = ()) -> Collector:
    return Collector(
        world.catalog, world.registry, world.bundles, world.blobs, lambda: in_use, rule=Rule(last, 0.0), grace_s=grace_s
    )


async def numbers(world: World) -> list[int]:
    return [version.number for version in await world.services.functions.versions(HELLO)]


async def in_redis(world: World) -> int:
    redis = await connect(world.url)
    try:
        return len([key async for key in redis.scan_iter("faas:{b}:code:*")])
    finally:
        await redis.aclose()


async def test_many_pushes_leave_disk_and_redis_flat(world: World) -> None:
    collect = collector(world)
    for number in range(200):
        assert phases(await world.push("hello", code=str(number)))[-1] == "done"
        if number % 20 == 19:
            await collect.run_once()
            assert await numbers(world) == [number + 1, number, number - 1]
            assert len(world.bundles.all()) == await in_redis(world) == 3
    assert await world.services.functions.rollback(HELLO) == (200, 199)
    assert await collect.run_once() == Collected(), "a second run finds nothing"


async def test_what_is_needed_stays(world: World) -> None:
    await world.push("hello", code="1", alias="old")
    for code in "23456":
        await world.push("hello", code=code)
    await world.services.functions.rollback(HELLO, 2)
    assert (await collector(world, last=1).run_once()).versions == 3
    assert await numbers(world) == [6, 2, 1], "an alias, live, the way back"
    with pytest.raises(NotFound, match="no version 4 any more"):
        await world.services.functions.rollback(HELLO, 4)
    assert await world.services.functions.rollback(HELLO) == (2, 6)


async def test_bundles_of_instances_that_run_stay_here(world: World) -> None:
    used = await world.bundle("used")
    unused = await world.bundle("unused")
    await world.push("hello")
    done = await collector(world, in_use=[used]).run_once()
    assert done == Collected(versions=0, local=1, shared=1)
    assert world.bundles.has(used)
    assert not world.bundles.has(unused)


async def test_a_shared_bundle_stays_while_one_needs_it(world: World) -> None:
    await world.push("hello", "other", code="same")
    await world.services.functions.remove(HELLO)
    assert await collector(world).run_once() == Collected()
    await world.services.functions.remove(FunctionName("default", "other"))
    assert (await collector(world).run_once())[1:] == (1, 1)


async def test_what_was_needed_a_moment_ago_stays_on_disk(world: World) -> None:
    """Instances of a removed function may still be ending, with its dependencies mounted."""
    await world.push("hello", "other")
    await world.push("hello", code="2")
    for sha in world.bundles.all():
        os.utime(world.bundles.root / sha, (1.0, 1.0))
    collect = collector(world, grace_s=60)
    await collect.run_once()
    await world.services.functions.remove(HELLO)
    await collect.run_once()
    assert len(world.bundles.all()) == 2


async def test_a_push_in_progress_is_spared(world: World) -> None:
    await world.push("other")
    await world.bundle("uploaded, not pushed yet")
    assert await collector(world, grace_s=60).run_once() == Collected()


async def test_asking_again_starts_the_grace_anew(world: World) -> None:
    await world.push("other")
    sha = await world.bundle("old")
    collect = collector(world, grace_s=3600)
    listed = world.bundles.idle, world.blobs.idle
    world.bundles.idle = lambda before: [sha]  # type: ignore[method-assign]

    async def idle(age_s: float) -> list[str]:
        return [sha]

    world.blobs.idle = idle  # type: ignore[method-assign]
    assert await world.services.code.has(sha)
    assert await collect.run_once() == Collected(), "it was listed as idle, and then asked for"
    world.bundles.idle, world.blobs.idle = listed  # type: ignore[method-assign]
    assert world.bundles.has(sha)


async def test_a_bundle_left_on_one_disk_is_asked_for_again(world: World) -> None:
    """Redis forgot it, this node's disk did not: the others could not get it, so the client must upload."""
    sha = await world.bundle("x")
    await world.blobs.delete(sha)
    assert world.bundles.has(sha)
    assert not await world.services.code.has(sha)
    await world.bundle("x")
    assert await world.blobs.exists(sha)


async def test_a_change_in_between_keeps_the_versions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for code in "123":
        await world.push("hello", code=code)
    histories = world.registry.histories

    async def and_then_a_rollback(names: Any) -> Any:
        found = await histories(names)
        await world.services.functions.rollback(HELLO, 1)
        return found

    monkeypatch.setattr(world.registry, "histories", and_then_a_rollback)
    assert await collector(world, last=1).run_once() == Collected()
    assert await numbers(world) == [3, 2, 1]
    assert world.live("hello") == 1


async def test_an_empty_redis_removes_nothing(world: World) -> None:
    await world.push("hello")
    redis = await connect(world.url)
    await redis.flushdb()
    await redis.aclose()
    assert await collector(world).run_once() == Collected()
    assert len(world.bundles.all()) == 1


async def test_it_runs_by_itself_after_a_push(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faas.control.collect.SETTLE_S", 0.01)
    await world.push("hello")
    running = asyncio.create_task(collector(world, last=1, grace_s=60).run())
    try:
        for code in "23":
            await world.push("hello", code=code)

        async def settled() -> bool:
            return await numbers(world) == [3, 2]

        await wait_until(settled, 10, "what is old is collected")
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_an_outage_ends_only_one_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faas.control.collect.SETTLE_S", 0.01)
    monkeypatch.setattr("faas.control.collect.EVERY_S", 0.01)
    asked = 0
    histories = world.registry.histories

    async def away_at_first(names: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked <= 2:
            raise (Unavailable("Redis does not answer"), RuntimeError("a defect"))[asked - 1]
        return await histories(names)

    monkeypatch.setattr(world.registry, "histories", away_at_first)
    await world.push("hello")
    running = asyncio.create_task(collector(world).run())
    try:
        await wait_until(lambda: asked >= 3, 10, "it goes on")
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_a_version_whose_code_is_gone_says_so(world: World) -> None:
    for code in "12":
        await world.push("hello", code=code)
    old = (await world.services.functions.versions(HELLO))[-1].code
    world.bundles.remove(old)
    await world.blobs.delete(old)
    with pytest.raises(Conflict, match="no longer stored"):
        await world.services.functions.rollback(HELLO)
