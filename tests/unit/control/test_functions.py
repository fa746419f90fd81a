"""Scale, aliases, rollback, removal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from faas.control.functions import bounds
from faas.errors import Conflict, Invalid, NotFound
from faas.model import Scale
from faas.names import FunctionName
from tests.unit.control.world import World

HELLO = FunctionName("default", "hello")


async def three(world: World) -> None:
    """hello@1 to hello@3, the last one live."""
    for code in "123":
        await world.push("hello", code=code)


async def test_scale(world: World) -> None:
    await world.push("hello", min=1, max=5)
    scaled = await world.services.functions.scale(HELLO, Scale(min=2))
    assert bounds(scaled) == (2, 5)
    assert world.catalog.get(HELLO) == scaled
    assert bounds(await world.services.functions.scale(HELLO, Scale())) == (1, 5)


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (Scale(min=-1), "min = -1: min is from 0 to 10000"),
        (Scale(max=0), "max = 0: max is from 1 to 10000"),
        (Scale(min=6), "min = 6 is more than max = 5"),
        (Scale(min=3, max=2), "min = 3 is more than max = 2"),
    ],
)
async def test_bad_scales(world: World, scale: Scale, words: str) -> None:
    await world.push("hello", max=5)
    with pytest.raises(Invalid, match=words):
        await world.services.functions.scale(HELLO, scale)


async def test_rollback_goes_to_what_was_live_before(world: World) -> None:
    await three(world)
    functions = world.services.functions
    assert await functions.rollback(HELLO) == (3, 2)
    assert await functions.rollback(HELLO) == (2, 3), "rolling back the rollback"
    assert await functions.rollback(HELLO, 1) == (3, 1)
    assert await functions.rollback(HELLO) == (1, 3)
    assert world.catalog.get(HELLO).was_live == (2, 1)
    assert world.live("hello") == 3
    with pytest.raises(NotFound, match="hello has no version 7"):
        await functions.rollback(HELLO, 7)


async def test_rollback_skips_what_never_ran(world: World) -> None:
    await world.push("hello", code="1")
    world.runner.fails["hello"] = NotFound("broken")
    await world.push("hello", code="2")
    world.runner.fails.clear()
    await world.push("hello", code="3")
    assert await world.services.functions.rollback(HELLO) == (3, 1)


async def test_rollback_needs_the_code_and_the_secrets(world: World) -> None:
    await world.services.secrets.set("default", "KEY", "v")
    await world.push("hello", code="1", secrets=("KEY",))
    await world.push("hello", code="2")
    await world.services.secrets.remove("default", "KEY")
    with pytest.raises(Conflict, match="needs the secret KEY") as caught:
        await world.services.functions.rollback(HELLO)
    assert caught.value.hint == "set it with: faas secrets set KEY --app default"
    await world.services.secrets.set("default", "KEY", "v")
    old = (await world.services.functions.versions(HELLO))[-1].code
    world.services.code._bundles.remove(old)
    await world.services.code._blobs.delete(old)
    with pytest.raises(Conflict, match="no longer stored"):
        await world.services.functions.rollback(HELLO)
    assert world.live("hello") == 2


async def test_rollback_needs_something_that_was_live(world: World) -> None:
    await world.push("hello", code="1", alias="pr-1")
    await world.push("hello", code="2")
    with pytest.raises(Conflict, match="hello has no version that was live before 2") as caught:
        await world.services.functions.rollback(HELLO)
    assert "--to" in caught.value.hint
    assert await world.services.functions.rollback(HELLO, 1) == (2, 1)


async def test_rollback_of_a_split_ends_the_split(world: World) -> None:
    await three(world)
    functions = world.services.functions
    await functions.rollback(HELLO, 2)
    await functions.set_alias(HELLO, "live", {2: 90, 3: 10})
    assert await functions.rollback(HELLO) == (3, 2)
    assert world.catalog.get(HELLO).aliases["live"] == {2: 100}


async def test_rollback_to_a_version_that_is_not_kept(world: World) -> None:
    await three(world)
    assert await world.registry.forget(world.catalog.get(HELLO), [1])
    with pytest.raises(NotFound, match="hello has no version 1 any more: it was removed as old") as caught:
        await world.services.functions.rollback(HELLO, 1)
    assert caught.value.hint == "list them with: faas versions hello"


async def test_a_version_pointed_at_is_in_the_history_again(world: World) -> None:
    """A collection may take a version out between the look and the write."""
    await three(world)
    find = world.services.functions._runnable.find

    async def find_and_lose(wanted: Any) -> Any:
        found = await find(wanted)
        await world.registry.forget(world.catalog.get(HELLO), [2])
        return found

    world.services.functions._runnable.find = find_and_lose  # type: ignore[method-assign]
    await world.services.functions.rollback(HELLO)
    assert 2 in [version.number for version in await world.services.functions.versions(HELLO)]


async def test_pause_and_resume(world: World) -> None:
    await world.push("hello")
    paused = await world.services.functions.pause(HELLO, " being repaired ")
    assert paused.paused == "being repaired"
    await world.push("hello", code="2")
    assert world.catalog.get(HELLO).paused == "being repaired", "a push keeps it"
    assert (await world.services.functions.resume(HELLO)).paused == ""
    for reason in ("", "  ", "a\nb", "x" * 201):
        with pytest.raises(Invalid, match="the reason for a pause is 1 to 200"):
            await world.services.functions.pause(HELLO, reason)


async def test_nothing_to_roll_back(world: World) -> None:
    world.runner.fails["hello"] = NotFound("broken")
    await world.push("hello")
    with pytest.raises(Conflict, match="no live version to go back from"):
        await world.services.functions.rollback(HELLO)


async def test_weighted_alias(world: World) -> None:
    await three(world)
    functions = world.services.functions
    function = await functions.set_alias(HELLO, "live", {3: 90, 1: 10})
    assert function.aliases["live"] == {1: 10, 3: 90}
    assert sorted(function.versions) == [1, 3]
    await functions.set_alias(HELLO, "stable", {2: 100})
    dropped = await functions.drop_alias(HELLO, "stable")
    assert sorted(dropped.versions) == [1, 3]
    assert world.catalog.get(HELLO) == dropped


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ({}, Invalid, "at least one version"),
        ({3: 90}, Invalid, "the weights sum to 90; they must sum to 100"),
        ({3: 150, 2: -50}, Invalid, "from 1 to 100"),
        ({0: 100}, Invalid, "from 1 to 100"),
        ({9: 100}, NotFound, "hello has no version 9"),
    ],
)
async def test_bad_weights(world: World, weights: dict[int, int], error: Any, words: str) -> None:
    await three(world)
    with pytest.raises(error, match=words):
        await world.services.functions.set_alias(HELLO, "canary", weights)
    assert "canary" not in world.catalog.get(HELLO).aliases


async def test_live_stays(world: World) -> None:
    await three(world)
    with pytest.raises(Conflict, match="live cannot be removed"):
        await world.services.functions.drop_alias(HELLO, "live")
    with pytest.raises(NotFound, match='hello has no alias "x"; it has: live'):
        await world.services.functions.drop_alias(HELLO, "x")


async def test_remove(world: World) -> None:
    await three(world)
    await world.services.functions.remove(HELLO)
    assert world.catalog.peek(HELLO) is None
    assert await world.registry.versions(HELLO) == []
    with pytest.raises(NotFound):
        await world.services.functions.remove(HELLO)


async def test_changes_at_once_all_hold(world: World) -> None:
    await three(world)
    functions = world.services.functions
    await asyncio.gather(
        functions.scale(HELLO, Scale(min=1)),
        functions.rollback(HELLO, 1),
        functions.set_alias(HELLO, "a", {2: 100}),
        functions.set_alias(HELLO, "b", {3: 100}),
    )
    function = world.catalog.get(HELLO)
    assert function.scale == Scale(min=1)
    assert function.aliases == {"live": {1: 100}, "a": {2: 100}, "b": {3: 100}}
    assert sorted(function.versions) == [1, 2, 3]
