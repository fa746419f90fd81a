"""An app as a whole: together or not at all, and fast."""

from __future__ import annotations

import time

import pytest

from faas.control.functions import bounds
from faas.errors import Conflict, Invalid, NotFound
from faas.model import Function, Scale, Settings, Version
from faas.names import FunctionName
from tests.unit.control.world import World


async def shop(world: World) -> None:
    """a and b of shop at version 2, c pushed once; x of another app at version 2."""
    for code in "12":
        await world.push("a", "b", app="shop", code=code)
        await world.push("x", code=code)
    await world.push("c", app="shop")


def lives(world: World) -> dict[str, int | None]:
    return {str(f.id): world.live(f.name, f.app) for f in world.catalog.snapshot.functions.values()}


async def test_rollback_of_an_app_and_back(world: World) -> None:
    await shop(world)
    position = world.catalog.snapshot.position
    rolled = await world.services.apps.rollback("shop")
    assert rolled.moved == {FunctionName("shop", "a"): (2, 1), FunctionName("shop", "b"): (2, 1)}
    assert rolled.stayed == [FunctionName("shop", "c")]
    assert lives(world) == {"a.shop": 1, "b.shop": 1, "c.shop": 1, "x": 2}
    assert world.catalog.snapshot.position != position
    await world.services.apps.rollback("shop")
    assert lives(world)["a.shop"] == lives(world)["b.shop"] == 2


async def test_rollback_of_everything(world: World) -> None:
    await shop(world)
    rolled = await world.services.apps.rollback(None)
    assert len(rolled.moved) == 3
    assert lives(world) == {"a.shop": 1, "b.shop": 1, "c.shop": 1, "x": 1}


async def test_rollback_moves_all_or_none(world: World) -> None:
    await world.services.secrets.set("shop", "KEY", "v")
    await world.push("a", app="shop", code="1", secrets=("KEY",))
    await world.push("b", app="shop", code="1")
    await world.push("a", "b", app="shop", code="2")
    await world.services.secrets.remove("shop", "KEY")
    with pytest.raises(Conflict, match=r"a\.shop@1 needs the secret KEY"):
        await world.services.apps.rollback("shop")
    assert lives(world) == {"a.shop": 2, "b.shop": 2}


async def test_nothing_to_roll_back(world: World) -> None:
    await world.push("a", app="shop")
    with pytest.raises(Conflict, match="no function of app shop has a version that was live before"):
        await world.services.apps.rollback("shop")
    with pytest.raises(NotFound, match='there is no app "shp"') as caught:
        await world.services.apps.rollback("shp")
    assert caught.value.hint == 'Did you mean "shop"?'


async def test_a_thousand_functions_roll_back_in_three_seconds(world: World) -> None:
    code = [await world.bundle(text) for text in "12"]
    old, new = (Version(number=n + 1, code=code[n], settings=Settings()) for n in (0, 1))
    functions = [
        Function(
            app="big",
            name=f"f{n}",
            aliases={"live": {2: 100}},
            versions={2: new},
            latest=2,
            was_live=(1,),
            created_at=1,
        )
        for n in range(1000)
    ]
    versions = [(function.id, version) for function in functions for version in (old, new)]
    await world.registry.apply(put=functions, versions=versions)
    await world.catalog.load()
    for expected in (1, 2):
        began = time.perf_counter()
        rolled = await world.services.apps.rollback("big")
        assert time.perf_counter() - began < 3
        assert len(rolled.moved) == 1000
        assert set(lives(world).values()) == {expected}


async def test_pause_and_resume(world: World) -> None:
    await shop(world)
    await world.services.functions.pause(FunctionName("shop", "a"), "its own reason")
    paused = await world.services.apps.pause("shop", "sale is over")
    assert [f.paused for f in paused] == ["its own reason", "sale is over", "sale is over"]
    assert world.catalog.get(FunctionName("default", "x")).paused == ""
    assert [f.paused for f in await world.services.apps.resume("shop")] == ["", "", ""]


async def test_scale(world: World) -> None:
    await world.push("a", app="shop", min=1, max=3)
    await world.push("b", app="shop", max=20)
    apps = world.services.apps
    assert [bounds(f) for f in await apps.scale_by("shop", 2)] == [(2, 6), (0, 40)]
    assert [bounds(f) for f in await apps.scale_by("shop", 0.01)] == [(1, 1), (0, 1)]
    assert [bounds(f) for f in await apps.scale("shop", Scale())] == [(1, 3), (0, 20)]
    assert [bounds(f) for f in await apps.scale("shop", Scale(max=5))] == [(1, 5), (0, 5)]
    assert [bounds(f) for f in await apps.scale("shop", Scale(min=2))] == [(2, 5), (2, 5)], "max stays"
    with pytest.raises(Invalid, match=r"a\.shop: min = 7 is more than max = 5"):
        await apps.scale("shop", Scale(min=7))
    for factor in (0, -1, 101, float("nan"), float("inf")):
        with pytest.raises(Invalid, match="by = "):
            await apps.scale_by("shop", factor)


async def test_remove_takes_secrets_along(world: World) -> None:
    await shop(world)
    await world.services.secrets.set("shop", "KEY", "v")
    await world.services.secrets.set("other", "KEY", "v")
    gone = await world.services.apps.remove("shop")
    assert [f.name for f in gone] == ["a", "b", "c"]
    assert lives(world) == {"x": 2}
    assert [secret.app for secret in world.services.secrets.list()] == ["other"]
    assert world.services.apps.members("other") == [], "an app may be secrets only"
    with pytest.raises(NotFound):
        await world.services.apps.remove("shop")
