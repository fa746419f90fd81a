"""Routes of live versions: the table that follows the registry, and changes that are refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from faas.control.routes import Routes, check_changes, live_routes
from faas.errors import Conflict
from faas.model import Function, Settings, Version
from faas.names import FunctionName
from faas.policy.routing import Match
from faas.store.registry import Snapshot
from tests.unit.control.world import World, phases


def made(name: str, *routes: str, since: float = 1.0, aliases: dict[str, dict[int, int]] | None = None) -> Function:
    """A function whose version 1 has no routes and whose version 2 has these."""
    versions = {
        number: Version(number=number, code="c", settings=Settings(routes=has))
        for number, has in ((1, ()), (2, routes))
    }
    return Function(
        app="a", name=name, versions=versions, aliases=aliases or {"live": {2: 100}}, latest=2, created_at=since
    )


def snapshot(*functions: Function) -> Snapshot:
    return Snapshot(functions={function.id.key: function for function in functions})


def owner(routes: Routes, path: str) -> str:
    found = routes.table.find("GET", "", path)
    return found.function.name if isinstance(found, Match) else ""


def test_the_table_follows() -> None:
    routes = Routes()
    routes.sync(snapshot(made("one", "/one", "/both"), made("two")))
    assert [owner(routes, path) for path in ("/one", "/both", "/two")] == ["one", "one", ""]
    routes.sync(snapshot(made("one", "/one"), made("two", "/two", "/both")))
    assert [owner(routes, path) for path in ("/one", "/both", "/two")] == ["one", "two", "two"], "handed over at once"
    routes.sync(snapshot(made("two", "/two")))
    assert [owner(routes, path) for path in ("/one", "/both", "/two")] == ["", "", "two"]
    routes.sync(snapshot())
    assert not routes.table


def test_only_the_larger_share_of_live_counts() -> None:
    for aliases, wanted in (
        ({"live": {1: 90, 2: 10}}, ()),
        ({"live": {1: 40, 2: 60}}, ("/x",)),
        ({"live": {1: 50, 2: 50}}, ("/x",)),
        ({"live": {1: 100}, "canary": {2: 100}}, ()),
        ({"canary": {2: 100}}, ()),
    ):
        assert live_routes(made("f", "/x", aliases=aliases)) == wanted, aliases


def test_two_that_have_one_route_all_the_same() -> None:
    """Two nodes may let it through in one moment; every node then serves the older function and says so."""
    routes = Routes()
    with capture_logs() as logs:
        routes.sync(snapshot(made("young", "/x", since=2.0), made("old", "/x", since=1.0)))
    assert owner(routes, "/x") == "old"
    assert [(entry["serves"], entry["instead_of"]) for entry in logs] == [("old.a", "young.a")]
    routes.sync(snapshot(made("young", "/x", since=2.0)))
    assert owner(routes, "/x") == "young"


def test_changes_that_are_fine() -> None:
    now = snapshot(made("one", "/x"), made("two", "/y"))
    one, two = now.functions["a/one"], now.functions["a/two"]
    check_changes([one], (), now)
    check_changes([replace(one, paused="why")], (), now)
    check_changes([made("one", "/y"), made("two", "/x")], (), now)
    check_changes([made("one", "/x", "/y")], [two.id], now)
    check_changes([made("three", "POST /x", "/x/", "shop.test/x")], (), now)


@pytest.mark.parametrize(
    ("put", "said"),
    [
        ([made("three", "/x")], 'three.a: the route "/x" belongs to one.a'),
        ([made("one", "/y")], 'one.a: the route "/y" belongs to two.a'),
        ([made("three", "GET,PUT /z/{a}"), made("four", "PUT,POST /z/{b}")], "belongs to three.a"),
        ([made("three", "/z/{a}", "/z/{b}")], "are the same"),
    ],
)
def test_changes_that_are_not(put: list[Function], said: str) -> None:
    with pytest.raises(Conflict) as caught:
        check_changes(put, (), snapshot(made("one", "/x"), made("two", "/y")))
    assert said in caught.value.message
    assert caught.value.hint


async def push(world: World, *names: str, **settings: Any) -> str:
    return phases(await world.push(*names, **settings))[-1]


async def test_a_push_is_refused_before_anything_starts(world: World) -> None:
    assert await push(world, "one", routes=("/x",)) == "done"
    events = await world.push("two", routes=("/x",))
    assert phases(events) == ["failed"]
    assert 'two: the route "/x" belongs to one ("/x")' in events[0].message
    assert "two@1" not in world.runner.begun
    assert await push(world, "two", routes=("/x",), alias="pr-1") == "done", "a preview has no routes"
    with pytest.raises(Conflict, match="belongs to one"):
        await world.services.functions.set_alias(FunctionName("default", "two"), "live", {1: 100})


async def test_a_route_taken_while_the_push_ran(world: World) -> None:
    """Checked again when the alias moves: whoever comes first has it, and the other push moves nothing."""
    world.runner.gates["slow"] = asyncio.Event()
    slow = asyncio.create_task(world.push("slow", routes=("/x",)))
    while "slow@1" not in world.runner.begun:
        await asyncio.sleep(0.005)
    assert await push(world, "quick", routes=("/x",)) == "done"
    world.runner.gates["slow"].set()
    events = await slow
    assert phases(events)[-1] == "failed"
    assert 'the route "/x" belongs to quick' in events[-1].message
    assert world.live("slow") is None


async def test_a_rollback_that_would_take_a_route(world: World) -> None:
    one = FunctionName("default", "one")
    await push(world, "one", code="1", routes=("/x",))
    await push(world, "one", code="2")
    await push(world, "two", routes=("/x",))
    with pytest.raises(Conflict, match="belongs to two"):
        await world.services.functions.rollback(one)
    assert world.live("one") == 2
    with pytest.raises(Conflict, match="belongs to two"):
        await world.services.apps.rollback("default")
    await world.services.functions.remove(FunctionName("default", "two"))
    assert await world.services.functions.rollback(one) == (2, 1)
