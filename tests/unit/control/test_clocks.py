"""Clocks that jump: versions are ordered by number and not by time, and no limit lasts as long as the jump."""

from __future__ import annotations

import pytest

from faas.control.functions import Functions
from faas.control.guesses import BURST, Guesses
from faas.control.push import Pushes
from faas.control.routes import Routes
from faas.errors import TooManyRequests
from faas.model import FunctionPush, Push, Settings
from faas.names import FunctionName
from faas.policy.routing import Match
from tests.unit.control.world import World

HELLO = FunctionName("default", "hello")
YEAR = 365 * 86400.0


class Clock:
    """Shows what it is told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def push(world: World, clock: Clock, code: str, name: str = "hello", **settings: object) -> None:
    """A push on a node with that clock."""
    pushes: Pushes = world.services.pushes
    pushes._clock = clock
    item = FunctionPush(name=name, code=await world.bundle(code), settings=Settings(**settings))  # type: ignore[arg-type]
    events = [event async for event in pushes.run("default", Push(functions=[item]), "me")]
    assert events[-1].phase == "done", events[-1]


async def test_a_push_by_a_clock_that_went_back_is_the_newest_all_the_same(world: World) -> None:
    clock = Clock(2 * YEAR)
    await push(world, clock, "1")
    clock.now = YEAR
    await push(world, clock, "2")
    function = world.catalog.get(HELLO)
    assert world.live("hello") == 2
    assert (function.created_at, function.updated_at) == (2 * YEAR, YEAR)
    assert [version.number for version in await world.services.functions.versions(HELLO)] == [2, 1]


async def test_a_rollback_goes_by_what_was_live_and_not_by_time(world: World) -> None:
    clock = Clock(3 * YEAR)
    functions = Functions(world.catalog, world.registry, world.services.code, clock=clock)
    for number, now in enumerate((3 * YEAR, YEAR, 2 * YEAR), 1):
        clock.now = now
        await push(world, clock, str(number))
    clock.now = 0.5 * YEAR
    assert await functions.rollback(HELLO) == (3, 2)
    assert await functions.rollback(HELLO) == (2, 3), "and back"


async def test_a_function_pushed_anew_by_an_earlier_clock_is_another_one(world: World) -> None:
    """`created_at` tells it from the one removed; it must not get that one's old versions."""
    clock = Clock(2 * YEAR)
    for code in "12":
        await push(world, clock, code)
    await world.services.functions.remove(HELLO)
    clock.now = YEAR
    await push(world, clock, "new")
    function = world.catalog.get(HELLO)
    assert (function.latest, world.live("hello")) == (1, 1)
    assert [version.number for version in await world.services.functions.versions(HELLO)] == [1]


async def test_routes_of_functions_made_by_clocks_that_differ(world: World) -> None:
    clock, routes = Clock(2 * YEAR), Routes()
    world.catalog.subscribe(routes.sync)
    await push(world, clock, "1", routes=("/x",))
    clock.now = YEAR
    await push(world, clock, "2", name="other", routes=("/y",))
    await push(world, clock, "3", routes=("/x", "/z"))
    for path, wanted in (("/x", "hello"), ("/y", "other"), ("/z", "hello")):
        found = routes.table.find("GET", "", path)
        assert isinstance(found, Match)
        assert found.function.name == wanted


def test_guesses_by_a_clock_that_goes_back() -> None:
    """The monotonic clock does not; should one do so all the same, nobody is locked out for as long as it jumped."""
    guesses = Guesses()
    for number in range(BURST):
        guesses.wrong("1.2.3.4", bytes([number]), 1_000_000.0)
    with pytest.raises(TooManyRequests) as caught:
        guesses.check("1.2.3.4", 0.0)
    assert caught.value.retry_after_s == 2.0
    guesses.check("1.2.3.4", 2.0)
