"""Declarations through a push: resolved once, installed once, reused, refused."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from faas.control.collect import Collector
from faas.control.dependencies import KeepReady
from faas.deps.words import DependenciesFailed
from faas.model import FunctionPush, Push, PushEvent, Requires, Settings, Version
from faas.names import FunctionName
from tests.support import wait_until
from tests.unit.control.world import World, phases

NAME = FunctionName("default", "hello")


async def push(
    world: World,
    *names: str,
    requirements: str = "numpy\n",
    code: str = "1",
    upgrade: bool = False,
    index: str = "",
    runtime: str = "python3.11",
) -> list[PushEvent]:
    sha = await world.bundle(code)
    requires = Requires(requirements=requirements, index=index)
    items = [
        FunctionPush(name=name, code=sha, settings=Settings(runtime=runtime), requires=requires)
        for name in names or ("hello",)
    ]
    run = world.services.pushes.run("default", Push(functions=items, upgrade=upgrade), "me")
    return [event async for event in run]


def live(world: World, name: str = "hello") -> Version:
    version = world.catalog.get(FunctionName("default", name)).live()
    assert version is not None
    return version


async def test_declared_packages_are_resolved_installed_and_kept_with_the_version(world: World) -> None:
    assert phases(await push(world)) == ["resolving", "installing", "stored", "starting", "ready", "live", "done"]
    version = live(world)
    assert (world.bundles.path(version.deps) / "lock").read_text() == "numpy\n# 1"
    assert await world.services.dependencies.lock(version.deps) == "numpy\n# 1"
    assert await world.registry.version(NAME, 1) == version


async def test_the_same_declaration_is_not_resolved_again(world: World) -> None:
    await push(world)
    first = live(world)
    assert phases(await push(world)) == ["unchanged", "done"]
    assert phases(await push(world, code="2", requirements="# mine\nnumpy   # fast\n"))[0] == "stored"
    assert live(world).deps == first.deps
    assert phases(await push(world, "other"))[0] == "stored", "also by another function of the app"
    assert len(world.maker.resolved) == len(world.maker.installed) == 1


async def test_upgrade_resolves_anew_and_earlier_versions_keep_theirs(world: World) -> None:
    await push(world)
    first = live(world)
    assert phases(await push(world, upgrade=True))[:2] == ["resolving", "installing"]
    assert live(world).number == 2
    assert live(world).deps != first.deps
    assert await world.registry.version(NAME, 1) == first


async def test_functions_of_one_push_share_what_they_declare(world: World) -> None:
    events = await push(world, *(f"f{number}" for number in range(5)))
    assert phases(events).count("resolving") == phases(events).count("installing") == 1
    assert len({live(world, f"f{number}").deps for number in range(5)}) == 1


async def test_ten_pushes_at_once_install_once(world: World) -> None:
    world.maker.gate = asyncio.Event()
    pushing = [asyncio.create_task(push(world, f"f{number}")) for number in range(10)]
    await wait_until(lambda: world.maker.resolved, 5, "one of them resolves")
    world.maker.gate.set()
    ends = [phases(events)[-1] for events in await asyncio.gather(*pushing)]
    assert ends == ["done"] * 10
    assert len(world.maker.installed) == len(set(world.maker.installed))
    assert len({live(world, f"f{number}").deps for number in range(10)}) == len(world.maker.resolved)


async def test_who_gives_up_waiting_does_not_end_it_for_the_others(world: World) -> None:
    world.maker.gate = asyncio.Event()
    one, two = (asyncio.create_task(push(world, name)) for name in ("one", "two"))
    await wait_until(lambda: world.maker.resolved, 5, "one resolves")
    one.cancel()
    await asyncio.wait({one})
    world.maker.gate.set()
    assert phases(await two)[-1] == "done"
    assert len(world.maker.installed) == 1


@pytest.mark.parametrize("when", ["fails", "breaks"])
async def test_a_failure_says_why_and_the_old_version_stays(world: World, when: str) -> None:
    await push(world, requirements="jinja2\n")
    setattr(world.maker, when, DependenciesFailed("no solution"))
    events = await push(world)
    assert phases(events)[-1] == "failed"
    assert (events[-1].function, events[-1].message) == ("hello", "no solution")
    assert events[-1].error is not None
    assert (events[-1].error["code"], events[-1].error["fault"]) == ("dependencies_failed", "function")
    assert live(world).number == 1
    setattr(world.maker, when, None)
    assert phases(await push(world))[-1] == "done", "it is tried again"
    assert not list(world.bundles.root.glob(".tmp-*")), "no room is left behind"


@pytest.mark.parametrize(
    ("requirements", "index", "runtime", "words"),
    [
        ("-r /etc/passwd\n", "", "python3.11", "is an option"),
        ("numpy\n", "ftp://x/", "python3.11", "is not an address"),
        ("numpy\n", "https://me:hunter2@x/simple", "python3.11", "has a password in it"),
        ("numpy\n", "https://me:${PASS}@x/simple", "python3.11", "no secret PASS"),
        ("numpy\n", "", "exec", "for Python runtimes only"),
    ],
)
async def test_what_cannot_be_is_refused_before_any_work(
    world: World, requirements: str, index: str, runtime: str, words: str
) -> None:
    events = await push(world, requirements=requirements, index=index, runtime=runtime)
    assert phases(events) == ["failed"]
    assert words in events[-1].message
    assert "hunter2" not in events[-1].message
    assert world.maker.resolved == []


async def test_a_list_of_comments_is_no_declaration(world: World) -> None:
    assert phases(await push(world, requirements="# nothing yet\n"))[0] == "stored"
    assert (live(world).deps, live(world).requires) == ("", "")


async def test_another_node_makes_the_same_from_the_recipe(world: World) -> None:
    await push(world)
    key = live(world).deps
    shutil.rmtree(world.bundles.path(key))
    keeping = asyncio.create_task(KeepReady(world.catalog, world.services.code).run())
    await wait_until(lambda: world.bundles.has(key), 5, "installed before anyone calls")
    keeping.cancel()
    await asyncio.wait({keeping})
    assert world.maker.installed == ["numpy\n# 1"] * 2
    assert len(world.maker.resolved) == 1, "from the lock: nothing is decided anew"


async def test_the_collector_spares_recipes_in_use(world: World) -> None:
    await push(world)
    key = live(world).deps
    collector = Collector(
        world.catalog, world.registry, world.bundles, world.blobs, lambda: set(), grace_s=0.0, clock=lambda: 4e9
    )
    await collector.run_once()
    assert world.bundles.has(key)
    assert await world.blobs.get(key)
    await world.services.functions.remove(NAME)
    await collector.run_once()
    assert not world.bundles.has(key)
    assert await world.blobs.get(key) is None
