"""Nodes taken out of service: wanted anywhere, followed by the one it is about."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from faas.control.drains import Drains
from faas.errors import Conflict, Invalid, NotFound
from faas.model import NodeInfo
from tests.unit.control.world import NODE, World


class Leaver:
    def __init__(self) -> None:
        self.did: list[float | None] = []

    def begin(self, grace_s: float) -> None:
        self.did.append(grace_s)

    def cancel(self) -> None:
        self.did.append(None)


async def nodes() -> list[NodeInfo]:
    return [NODE, replace(NODE, id="n-2", name="two"), replace(NODE, id="n-3", name="two")]


async def test_a_node_follows_what_is_wanted_of_it(world: World) -> None:
    drains = Drains(world.catalog, world.registry, nodes)
    leaver, other = Leaver(), Leaver()
    end = drains.follow("n-1", leaver)
    drains.follow("n-2", other)
    assert leaver.did == [None]
    assert (await drains.drain("one", 5.0, "me")).draining
    assert leaver.did == [None, 5.0]
    assert other.did == [None, None]
    again = Leaver()
    drains.follow("n-1", again)
    assert again.did == [5.0], "after a restart it still is"
    assert not (await drains.undrain("n-1")).draining
    assert leaver.did == [None, 5.0, None]
    end()
    await drains.drain("n-1", 1.0, "me")
    assert len(leaver.did) == 3


async def test_what_cannot_be(world: World) -> None:
    drains = Drains(world.catalog, world.registry, nodes)
    with pytest.raises(NotFound, match='no node "onn"'):
        await drains.drain("onn", 1.0, "me")
    with pytest.raises(Conflict, match="n-2, n-3"):
        await drains.undrain("two")
    with pytest.raises(Invalid, match="grace"):
        await drains.drain("one", -1.0, "me")
