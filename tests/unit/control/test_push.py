"""Pushes: what moves, what does not, and what happens when several come at once."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from faas.errors import NoRoom, StartFailed
from faas.model import FunctionPush, Push, PushEvent, Scale, Settings
from faas.names import FunctionName
from tests.support import wait_until
from tests.unit.control.world import World, phases

HELLO = FunctionName("default", "hello")


async def test_first_push_goes_live(world: World) -> None:
    events = await world.push("hello", memory=64 << 20)
    assert phases(events) == ["stored", "starting", "ready", "live", "done"]
    assert events[3].url == "http://node.test:8080/function/hello"
    assert [event.ms for event in events] == sorted(event.ms for event in events)
    version = world.catalog.get(HELLO).live()
    assert version is not None
    assert (version.number, version.created_by, version.settings.memory) == (1, "me", 64 << 20)
    assert await world.registry.version(HELLO, 1) == version


async def test_same_content_changes_nothing(world: World) -> None:
    await world.push("hello", code="a")
    before = world.catalog.get(HELLO)
    events = await world.push("hello", code="a")
    assert phases(events) == ["unchanged", "done"]
    assert events[0].version == 1
    assert world.catalog.get(HELLO) == before
    assert world.runner.begun == ["hello@1"]
    assert phases(await world.push("hello", code="a", timeout_s=5.0))[-2:] == ["live", "done"]


async def test_failed_import_keeps_the_old_version(world: World) -> None:
    await world.push("hello", code="good")
    world.runner.fails["hello"] = StartFailed("boom", extra={"traceback": "line 1"})
    events = await world.push("hello", code="bad")
    assert phases(events) == ["stored", "starting", "failed"]
    assert (events[-1].function, events[-1].version, events[-1].message) == ("hello", 2, "boom")
    assert events[-1].error is not None
    assert events[-1].error["traceback"] == "line 1"
    assert events[-1].error["fault"] == "function"
    assert world.live("hello") == 1
    assert [version.number for version in await world.registry.versions(HELLO)] == [1]
    world.runner.fails.clear()
    await world.push("hello", code="better")
    assert world.live("hello") == 3, "the number of the failed push is not used again"


async def test_failed_first_push_leaves_nothing_live(world: World) -> None:
    world.runner.fails["hello"] = NoRoom("full")
    events = await world.push("hello")
    assert phases(events)[-1] == "failed"
    assert world.live("hello") is None
    assert await world.registry.versions(HELLO) == []


async def test_an_app_moves_together_or_not_at_all(world: World) -> None:
    names = [f"f{number}" for number in range(6)]
    await world.push(*names, app="shop", code="1")
    moves: list[set[int | None]] = []
    end = world.catalog.subscribe(lambda _: moves.append({world.live(name, "shop") for name in names}))
    world.runner.fails["f3"] = StartFailed("f3 is broken")
    events = await world.push(*names, app="shop", code="2")
    assert events[-1].phase == "failed"
    assert events[-1].function == "f3.shop"
    assert {world.live(name, "shop") for name in names} == {1}
    world.runner.fails.clear()
    await world.push(*names, app="shop", code="3")
    end()
    assert {world.live(name, "shop") for name in names} == {3}
    assert all(len(seen) == 1 for seen in moves), "no snapshot shows half a push"


async def test_only_what_changed_is_started(world: World) -> None:
    await world.push("a", "b", code="1")
    old, new = await world.bundle("1"), await world.bundle("2")
    push = Push(
        functions=[
            FunctionPush(name="a", code=old, settings=Settings()),
            FunctionPush(name="b", code=new, settings=Settings()),
        ]
    )
    events = [event async for event in world.services.pushes.run("default", push, "me")]
    assert [(event.phase, event.function) for event in events if event.function == "a"] == [("unchanged", "a")]
    assert (world.live("a"), world.live("b")) == (1, 2)


async def test_starts_are_bounded(world: World) -> None:
    gate = asyncio.Event()
    names = [f"f{number}" for number in range(9)]
    world.runner.gates = dict.fromkeys(names, gate)
    pushing = asyncio.create_task(world.push(*names))
    await wait_until(lambda: world.runner.at_once == 4, 5, "four starts are under way")
    gate.set()
    assert phases(await pushing)[-1] == "done"
    assert world.runner.most_at_once == 4


async def test_another_alias_leaves_live_alone(world: World) -> None:
    events = await world.push("hello", code="a", alias="pr-42")
    assert phases(events) == ["stored", "starting", "ready", "preview", "done"]
    assert events[3].url.endswith("/function/hello@pr-42")
    assert world.live("hello") is None
    await world.push("hello", code="b")
    await world.push("hello", code="c", alias="pr-42")
    assert world.catalog.get(HELLO).aliases == {"live": {2: 100}, "pr-42": {3: 100}}
    assert sorted(world.catalog.get(HELLO).versions) == [2, 3]


async def test_the_higher_number_wins_a_race(world: World) -> None:
    gate = asyncio.Event()
    world.runner.gates["hello"] = gate
    slow = asyncio.create_task(world.push("hello", code="slow"))
    await wait_until(lambda: world.runner.begun == ["hello@1"], 5, "the first push has begun")
    del world.runner.gates["hello"]
    await world.push("hello", code="fast")
    assert world.live("hello") == 2
    gate.set()
    events = await slow
    assert phases(events) == ["stored", "starting", "ready", "done"]
    assert events[-1].message == "hello@2 is newer and stays live."
    assert world.live("hello") == 2
    assert len(await world.registry.versions(HELLO)) == 2, "the slower one is in the history all the same"


async def test_many_racing_pushes_end_at_the_highest_number(world: World) -> None:
    results = await asyncio.gather(*(world.push("hello", code=str(number)) for number in range(6)))
    assert {events[-1].phase for events in results} == {"done"}
    assert world.live("hello") == 6
    assert [version.number for version in await world.registry.versions(HELLO)] == [1, 2, 3, 4, 5, 6]


async def test_scale_by_hand_survives_a_push(world: World) -> None:
    await world.push("hello", code="a")
    await world.services.functions.scale(HELLO, Scale(min=2))
    await world.push("hello", code="b")
    assert world.catalog.get(HELLO).scale == Scale(min=2)


async def test_removed_while_pushed(world: World) -> None:
    await world.push("hello", code="a")
    gate = asyncio.Event()
    world.runner.gates["hello"] = gate
    pushing = asyncio.create_task(world.push("hello", code="b"))
    await wait_until(lambda: len(world.runner.begun) == 2, 5, "the push has begun")
    await world.services.functions.remove(HELLO)
    gate.set()
    events = await pushing
    assert events[-1].error is not None
    assert events[-1].error["code"] == "conflict"
    assert world.catalog.peek(HELLO) is None
    assert await world.registry.versions(HELLO) == []


async def test_a_client_that_leaves_cancels_cleanly(world: World) -> None:
    world.runner.gates["hello"] = asyncio.Event()
    sha = await world.bundle("x")
    push = Push(functions=[FunctionPush(name="hello", code=sha, settings=Settings())])
    async with aclosing(world.services.pushes.run("default", push, "me")) as events:
        async for event in events:
            if event.phase == "starting":
                break
    assert world.runner.cancelled in (["hello@1"], [])
    assert world.runner.at_once == 0
    assert world.live("hello") is None
    world.runner.gates.clear()
    assert phases(await world.push("hello"))[-1] == "done"


async def test_a_bug_in_the_node_is_told_without_details(world: World) -> None:
    world.runner.fails["hello"] = RuntimeError("secret detail")
    events = await world.push("hello")
    assert events[-1].error is not None
    assert events[-1].error["code"] == "internal"
    assert "secret detail" not in events[-1].message


@pytest.mark.parametrize(
    ("names", "more", "code", "words"),
    [
        ([], {}, "invalid", "no functions"),
        (["Hello"], {}, "invalid", '"Hello" is not a function name'),
        (["a", "a"], {}, "invalid", "twice"),
        (["a"], {"app": "v1"}, "invalid", "cannot be an app name"),
        (["a"], {"alias": "3"}, "invalid", "is not an alias"),
        (["a"], {"runtime": "python9"}, "not_found", 'no runtime "python9"; it has: exec, python3.11'),
        (["a"], {"memory": 1}, "invalid", "memory"),
        (["a"], {"min": 5, "max": 2}, "invalid", "min = 5 is more than max = 2"),
        (["a"], {"secrets": ("KEY",)}, "not_found", "no secret KEY"),
    ],
)
async def test_bad_pushes_are_refused_before_any_work(
    world: World, names: list[str], more: dict[str, Any], code: str, words: str
) -> None:
    (event,) = await world.push(*names, **more)
    assert event.phase == "failed"
    assert event.error is not None
    assert event.error["code"] == code
    assert words in event.message
    assert event.error.get("hint", "x")
    assert world.runner.begun == []
    assert world.catalog.snapshot.functions == {}


async def test_an_unknown_bundle_is_refused(world: World) -> None:
    push = Push(functions=[FunctionPush(name="a", code="0" * 64, settings=Settings())])
    events: list[PushEvent] = [event async for event in world.services.pushes.run("default", push, "me")]
    assert phases(events) == ["failed"]
    assert "is not stored here" in events[0].message


async def test_a_bundle_uploaded_to_another_node_is_fetched(world: World) -> None:
    sha = await world.bundle("x")
    store = world.services.code._bundles
    store.remove(sha)
    push = Push(functions=[FunctionPush(name="a", code=sha, settings=Settings())])
    events = [event async for event in world.services.pushes.run("default", push, "me")]
    assert phases(events)[-1] == "done"
    assert store.has(sha)
