"""Quotas of apps: set, followed, kept, and the calls a second they grant."""

from __future__ import annotations

import pytest

from faas.control.quotas import Quotas
from faas.errors import Invalid, TooManyRequests
from faas.policy.quota import Quota
from faas.store import keys
from faas.store.registry import Change
from tests.unit.control.world import World

MIB = 1 << 20


async def test_set_show_and_clear(world: World) -> None:
    quotas = world.services.releases.quotas
    assert quotas.of("shop") == Quota()
    wanted = Quota(instances=20, memory=4096 * MIB, queue=10_000, rps=100)
    assert await quotas.set("shop", wanted) == quotas.of("shop") == wanted
    assert (quotas.queue("shop"), quotas.queue("other")) == (10_000, 0)
    other = Quotas(world.catalog, world.registry)
    assert other.of("shop") == wanted, "every node knows"
    await quotas.set("shop", Quota())
    assert other.of("shop") == Quota()
    assert keys.APP + "shop" not in world.catalog.snapshot.others


async def test_it_outlives_the_app(world: World) -> None:
    await world.push("hello", app="shop")
    await world.services.releases.quotas.set("shop", Quota(instances=1))
    await world.services.apps.remove("shop")
    assert world.services.releases.quotas.of("shop").instances == 1, "else whoever may deploy could lift it"


@pytest.mark.parametrize(
    ("quota", "words"),
    [
        (Quota(instances=0), "instances = 0"),
        (Quota(queue=-1), "queue = -1"),
        (Quota(memory=1), "memory = 1: it is at least 16MiB"),
        (Quota(rps=0), "rps = 0"),
        (Quota(rps=float("inf")), "rps = inf"),
    ],
)
async def test_limits_that_cannot_be(world: World, quota: Quota, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        await world.services.releases.quotas.set("shop", quota)


async def test_calls_a_second_are_shared_out(world: World) -> None:
    now = 100.0
    quotas = Quotas(world.catalog, world.registry, clock=lambda: now)
    await quotas.set("shop", Quota(rps=10))

    def granted() -> int:
        for count in range(100):
            try:
                quotas.admit("shop")
            except TooManyRequests:
                return count
        return 100

    assert granted() == 10
    with pytest.raises(TooManyRequests, match="quota of 10 calls a second") as refused:
        quotas.admit("shop")
    assert refused.value.retry_after_s == 1.0
    now += 0.5
    assert granted() == 5
    quotas.shared_by(5)
    now += 1
    assert granted() == 2, "its share of five nodes"
    quotas.admit("other")
    Quotas(world.catalog, world.registry, rates=False).admit("shop")
    await quotas.set("shop", Quota(rps=0.25))
    quotas.shared_by(1)
    now += 100
    assert granted() == 1, "less than one a second is one now and then"


async def test_a_record_that_cannot_be_read_is_no_limit(world: World) -> None:
    await world.registry.apply(records=[Change(keys.APP + "shop", b"{")])
    await world.catalog.load()
    assert world.services.releases.quotas.of("shop") == Quota()
