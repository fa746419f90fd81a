"""Resolving targets, following the registry, and what a reader sees right after its own change."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from faas.control.catalog import Catalog, pick
from faas.errors import NotFound, Unavailable
from faas.model import Function, Scale
from faas.names import FunctionName, parse_target
from faas.store.connection import connect
from faas.store.registry import Snapshot
from tests.support import wait_until
from tests.unit.control.world import World, make_world

HELLO = FunctionName("default", "hello")


def test_draws_follow_the_weights() -> None:
    weights = {3: 90, 4: 9, 7: 1}
    drawn = Counter(pick(weights, number / 1000) for number in range(1000))
    assert drawn == {3: 900, 4: 90, 7: 10}
    assert pick({5: 100}, 0.999999999) == 5


async def test_targets(world: World) -> None:
    await world.push("hello", code="1")
    await world.push("hello", code="2", alias="canary")
    await world.push("hello", code="3")
    catalog = world.catalog
    for text, number in (("hello", 3), ("hello@canary", 2), ("hello@3", 3)):
        found = catalog.resolve(parse_target(text), 0.5)
        assert found is not None
        assert found[1].number == number


async def test_old_versions_are_asked_for_once(world: World) -> None:
    await world.push("hello", code="1")
    await world.push("hello", code="2")
    target = parse_target("hello@1")
    assert world.catalog.resolve(target, 0.0) is None
    function, version = await world.catalog.locate(target, 0.0)
    assert version.number == 1
    assert world.catalog.resolve(target, 0.0) == (function, version)
    await world.services.functions.remove(HELLO)
    await world.push("hello", code="3")
    found = world.catalog.resolve(target, 0.0)
    assert found is not None
    assert found[1].code != version.code, "nothing of the removed function is remembered"


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("helo", 'there is no function "helo"', 'Did you mean "hello"?'),
        ("zzz", 'there is no function "zzz"', "faas ls"),
        ("hello.shop", 'there is no function "hello.shop"', 'Did you mean "hello"?'),
        ("hello@canry", 'hello has no alias "canry"; it has: canary, live', 'Did you mean "canary"?'),
        ("hello@9", "hello has no version 9; the highest number given out is 2", "faas versions hello"),
        ("hello@0", "hello has no version 0", "faas versions hello"),
        ("broken", "broken has no live version", "faas logs broken"),
    ],
)
async def test_not_found_says_what_is_there(world: World, target: str, message: str, hint: str) -> None:
    await world.push("hello", code="1")
    await world.push("hello", code="2", alias="canary")
    world.runner.fails["broken"] = NotFound("no")
    await world.push("broken")
    with pytest.raises(NotFound) as caught:
        await world.catalog.locate(parse_target(target), 0.0)
    assert message in caught.value.message
    assert hint in caught.value.hint


async def test_another_node_follows(world: World, tmp_path: Path) -> None:
    async with make_world(world.url, tmp_path / "other") as other:
        await world.push("hello")
        await wait_until(lambda: other.catalog.peek(HELLO) is not None, 5, "the other node has it")
        await wait_until(lambda: other.live("hello") == 1, 5, "and its live version")
        assert other.catalog.get(HELLO) == world.catalog.get(HELLO)


async def test_own_changes_show_at_once_without_a_follower(world: World) -> None:
    await world.push("hello")
    alone = Catalog(world.registry)
    await alone.load()
    saved = await world.registry.apply(put=[alone.get(HELLO)])
    await alone.until(lambda now: now.functions[HELLO.key].rev >= saved[0].rev)
    assert alone.get(HELLO).rev == saved[0].rev


async def test_a_stream_behind_a_load_never_goes_back(world: World) -> None:
    seen: list[int] = []
    await world.push("hello")
    end = world.catalog.subscribe(lambda now: seen.append(now.functions[HELLO.key].rev))
    for number in range(1, 20):
        await world.services.functions.scale(HELLO, Scale(min=number))
        await world.catalog.load()
    end()
    assert seen == sorted(seen)


async def test_an_emptied_redis_empties_the_catalog(world: World) -> None:
    await world.push("hello")
    redis = await connect(world.url)
    await redis.flushdb()
    await redis.aclose()
    await world.registry.apply(put=[Function(app="default", name="other")])
    await wait_until(lambda: world.catalog.peek(HELLO) is None, 10, "the old function is forgotten")
    await wait_until(
        lambda: world.catalog.peek(FunctionName("default", "other")) is not None, 10, "the new one is known"
    )


async def test_a_failing_subscriber_does_not_stop_the_others(world: World) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("no")

    seen: list[object] = []
    world.catalog.subscribe(broken)
    end = world.catalog.subscribe(seen.append)
    await world.push("hello")
    assert seen
    end()
    end()
    count = len(seen)
    await world.push("hello", code="2")
    assert len(seen) == count


async def test_following_survives_a_bug(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faas.control.catalog.RELOAD_PAUSE_S", 0.01)
    watch, broken = world.registry.watch, [RuntimeError("a bug"), Unavailable("away")]

    async def once_broken(snapshot: Snapshot) -> AsyncIterator[Snapshot]:
        if broken:
            raise broken.pop()
        async for newer in watch(snapshot):
            yield newer

    monkeypatch.setattr(world.registry, "watch", once_broken)
    other = Catalog(world.registry)
    following = asyncio.create_task(other.run())
    await world.push("hello")
    await wait_until(lambda: not broken and other.peek(HELLO) is not None, 5, "it follows again")
    await world.services.functions.remove(HELLO)
    await wait_until(lambda: other.peek(HELLO) is None, 5, "and goes on")
    following.cancel()
    await asyncio.wait({following})


async def test_a_stored_change_is_no_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> Snapshot:
        raise Unavailable("Redis does not answer")

    monkeypatch.setattr(world.registry, "load", away)
    monkeypatch.setattr("faas.control.catalog.SEEN_WITHIN_S", 0.01)
    await world.catalog.until(lambda _: False)
