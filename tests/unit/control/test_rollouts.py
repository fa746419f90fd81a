"""Rollouts: begun, steered by whoever leads, ended by gates, by people and by other changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from faas.control.editor import Edit, Editor
from faas.control.observer import Observer
from faas.control.rollout import HISTORY_MAX, Rollout, Terms, begin, change
from faas.control.rollouts import Rollouts
from faas.control.steering import Steering
from faas.errors import Conflict, Invalid, NotFound, StartFailed
from faas.model import Function
from faas.names import FunctionName
from faas.policy.rollout import Gates
from faas.store import keys
from faas.store.connection import connect
from faas.store.registry import Change
from faas.store.sightings import Sightings
from tests.unit.control.world import World

HELLO = FunctionName("default", "hello")
QUICK = Terms((10, 50, 100), 10.0, Gates(min_sample=10, max_p95=None))


class Cluster:
    """Nodes that share the world's catalog: observers that count, and one or several that may lead."""

    def __init__(self, world: World, sightings: Sightings) -> None:
        self.world = world
        self.sightings = sightings
        self.now = 1000.0
        self.rollouts: Rollouts = world.services.releases.rollouts
        self.leader = self.steering()

    def steering(self) -> Steering:
        return Steering(self.world.catalog, self.rollouts, tick=lambda: self.now)

    def node(self, name: str) -> Observer:
        node = Observer(name, self.sightings, self.rollouts.going)
        node.sync()
        return node

    async def serve(self, node: Observer, calls: dict[int, tuple[int, int]]) -> None:
        """Count calls of versions: how many, and how many of them failed."""
        node.sync()
        for version, (count, errors) in calls.items():
            for at in range(count):
                node.note(self.function, version, 0.01, failed=at < errors)
        await node.publish()

    async def later(self, seconds: float, leader: Steering | None = None) -> Rollout:
        """The leader looks, `seconds` pass, and it looks again."""
        await (leader or self.leader).drive()
        self.now += seconds
        await (leader or self.leader).drive()
        return self.present

    @property
    def present(self) -> Rollout:
        found = self.rollouts.find(HELLO)
        assert found is not None
        return found

    @property
    def function(self) -> Function:
        return self.world.catalog.get(HELLO)

    @property
    def live(self) -> dict[int, int]:
        return self.function.aliases["live"]


@pytest.fixture
async def cluster(world: World) -> AsyncIterator[Cluster]:
    """hello@1 live, hello@2 canary."""
    await world.push("hello", code="1")
    await world.push("hello", code="2", alias="canary")
    redis = await connect(world.url)
    yield Cluster(world, Sightings(redis))
    await redis.aclose()


GOOD = {1: (100, 0), 2: (20, 0)}


async def test_step_by_step_to_the_end(cluster: Cluster) -> None:
    begun = await cluster.rollouts.start(HELLO, None, QUICK, "me")
    assert (begun.version, begun.live, cluster.live) == (2, 1, {1: 90, 2: 10})
    one, two = cluster.node("one"), cluster.node("two")
    await cluster.serve(one, {1: (60, 0), 2: (6, 0)})
    await cluster.serve(two, {1: (60, 0), 2: (6, 0)})
    assert (await cluster.later(9)).share == 10, "its time is not over"
    assert (await cluster.later(1)).share == 50, "both nodes together have the sample"
    assert cluster.live == {1: 50, 2: 50}
    assert (await cluster.later(10)).share == 50, "what was seen in the first step is of the past"
    await cluster.serve(one, GOOD)
    assert (await cluster.later(10)).state == "passed"
    assert cluster.live == {2: 100}
    assert cluster.function.was_live == (1,), "the way back"
    assert [event.what for event in cluster.present.history] == ["started", "step", "passed"]


async def test_a_broken_gate_sends_it_back_before_the_time(cluster: Cluster) -> None:
    await cluster.rollouts.start(HELLO, 2, QUICK, "me")
    await cluster.serve(cluster.node("one"), {1: (100, 0), 2: (3, 3)})
    assert (await cluster.later(0)).state == "reverted"
    assert cluster.live == {1: 100}
    assert "3 of 3 calls failed" in cluster.present.reason
    assert (await cluster.rollouts.start(HELLO, 2, QUICK, "me")).state == "running", "another try"
    await cluster.later(0)
    assert cluster.present.state == "running", "with its own counts"


async def test_another_leader_goes_on(cluster: Cluster) -> None:
    await cluster.rollouts.start(HELLO, 2, QUICK, "me")
    await cluster.serve(cluster.node("dies"), GOOD)
    await cluster.later(9)
    heir = cluster.steering()
    assert (await cluster.later(5, heir)).share == 10, "it watches the step for its whole time"
    assert (await cluster.later(5, heir)).share == 50, "with what the dead node had seen"
    await cluster.leader.drive()
    assert cluster.present.share == 50, "one that still thinks it leads does no harm"


async def test_two_leaders_at_once_move_it_once(cluster: Cluster) -> None:
    await cluster.rollouts.start(HELLO, 2, QUICK, "me")
    await cluster.serve(cluster.node("one"), GOOD)
    leaders = [cluster.steering() for _ in range(3)]
    for leader in leaders:
        await leader.drive()
    cluster.now += 10
    await asyncio.gather(*(leader.drive() for leader in leaders))
    assert cluster.present.share == 50
    assert len(cluster.present.history) == 2


async def test_no_data_pauses_and_resume_begins_the_step_anew(cluster: Cluster) -> None:
    await cluster.rollouts.start(HELLO, 2, QUICK, "me")
    assert (await cluster.later(39)).state == "running"
    assert (await cluster.later(1)).state == "paused"
    assert cluster.live == {1: 90, 2: 10}, "shares stay"
    await cluster.serve(cluster.node("one"), GOOD)
    assert (await cluster.later(1000)).state == "paused"
    resumed = await cluster.rollouts.resume(HELLO, "by me")
    assert (resumed.state, resumed.share) == ("running", 10)
    assert (await cluster.later(10)).share == 10, "counts of the pause do not count"
    await cluster.serve(cluster.node("one"), GOOD)
    assert (await cluster.later(1)).share == 50


async def test_a_paused_one_still_goes_back(cluster: Cluster) -> None:
    await cluster.rollouts.start(HELLO, 2, QUICK, "me")
    assert (await cluster.rollouts.pause(HELLO, "by me")).state == "paused"
    assert (await cluster.rollouts.pause(HELLO, "by me")).state == "paused", "twice is once"
    await cluster.serve(cluster.node("one"), {1: (100, 0), 2: (10, 10)})
    assert (await cluster.later(0)).state == "reverted"
    with pytest.raises(Conflict, match="no rollout of hello is going on: the last one reverted"):
        await cluster.rollouts.resume(HELLO, "by me")


@pytest.mark.parametrize("how", ["push", "rollback", "alias"])
async def test_moving_live_ends_it(cluster: Cluster, how: str) -> None:
    await cluster.rollouts.start(HELLO, 2, QUICK, "me")
    functions = cluster.world.services.functions
    if how == "push":
        await cluster.world.push("hello", code="3")
    elif how == "rollback":
        assert await functions.rollback(HELLO) == (2, 1)
    else:
        await functions.set_alias(HELLO, "live", {1: 20, 2: 80})
    before = cluster.live
    assert (await cluster.later(0)).state == "aborted"
    assert cluster.live == before, "theirs, not ours"


async def test_abort_right_after_somebody_moved_live(cluster: Cluster) -> None:
    await cluster.rollouts.start(HELLO, 2, QUICK, "me")
    await cluster.world.push("hello", code="3")
    assert (await cluster.rollouts.abort(HELLO, "by me")).state == "aborted"
    assert cluster.live == {3: 100}


async def test_a_removed_function_takes_its_rollout_along(cluster: Cluster) -> None:
    await cluster.rollouts.start(HELLO, 2, QUICK, "me")
    await cluster.world.services.functions.remove(HELLO)
    await cluster.leader.drive()
    with pytest.raises(NotFound):
        cluster.rollouts.find(HELLO)
    await cluster.world.push("hello", code="1")
    assert cluster.rollouts.find(HELLO) is None
    await cluster.world.push("hello", code="2", alias="canary")
    await cluster.rollouts.start(HELLO, None, QUICK, "me")
    await cluster.world.services.apps.remove("default")
    assert keys.ROLLOUT + HELLO.key not in cluster.world.catalog.snapshot.others


async def test_what_cannot_begin(cluster: Cluster) -> None:
    start, world = cluster.rollouts.start, cluster.world
    with pytest.raises(Conflict, match="hello@1 is live already"):
        await start(HELLO, 1, QUICK, "me")
    with pytest.raises(NotFound, match="no version 9"):
        await start(HELLO, 9, QUICK, "me")
    with pytest.raises(NotFound, match='no function "other"'):
        await start(FunctionName("default", "other"), None, QUICK, "me")
    world.runner.fails["hello"] = StartFailed("no")
    with pytest.raises(StartFailed):
        await start(HELLO, 2, QUICK, "me")
    assert cluster.live == {1: 100}, "what does not start gets no calls"
    world.runner.fails.clear()
    begun = await asyncio.gather(*(start(HELLO, 2, QUICK, "me") for _ in range(3)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in begun) == ["Conflict", "Conflict", "Rollout"], "one at a time"
    await cluster.rollouts.abort(HELLO, "by me")
    await world.services.functions.set_alias(HELLO, "live", {1: 50, 2: 50})
    with pytest.raises(Conflict, match="spread by hand"):
        await start(HELLO, 2, QUICK, "me")
    await world.push("fresh", alias="canary")
    with pytest.raises(Conflict, match="no live version to compare with"):
        await start(FunctionName("default", "fresh"), None, QUICK, "me")


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (Terms(()), "steps = none"),
        (Terms((5, 25)), "the last one 100"),
        (Terms((25, 5, 100)), "rising"),
        (Terms((0, 100)), "steps = 0,100"),
        (Terms((5, 5, 100)), "rising"),
        (Terms((5, 101)), "the last one 100"),
        (Terms(tuple(range(80, 101))), "1 to 20"),
        (Terms(every_s=0.5), "from 1 s"),
        (Terms(every_s=float("nan")), "every = nan"),
        (Terms(gates=Gates(max_errors=1.5)), "max_errors = 1.5"),
        (Terms(gates=Gates(max_p95=-0.1)), "max_p95"),
        (Terms(gates=Gates(min_sample=-1)), "min_sample"),
    ],
)
async def test_terms_that_cannot_be(cluster: Cluster, terms: Terms, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        await cluster.rollouts.start(HELLO, 2, terms, "me")


async def test_one_step_is_at_once(cluster: Cluster) -> None:
    begun = await cluster.rollouts.start(HELLO, 2, Terms((100,)), "me")
    assert (begun.state, cluster.live) == ("passed", {2: 100})


async def test_a_record_that_cannot_be_read_stands_still(cluster: Cluster) -> None:
    async def plan() -> Edit:
        return Edit(records=[Change(keys.ROLLOUT + HELLO.key, b"{", 0)])

    world = cluster.world
    await Editor(world.catalog, world.registry).write("it", plan)
    await cluster.leader.drive()
    assert cluster.rollouts.find(HELLO) is None
    assert cluster.live == {1: 100}


def test_history_is_bounded() -> None:
    rollout = begin("r", 2, 1, Terms(), "me", 1.0)
    for at in range(HISTORY_MAX * 2):
        rollout = change(rollout, "paused" if rollout.state == "running" else "running", "x" * 1000, float(at))
    assert len(rollout.history) == HISTORY_MAX
    assert rollout.history[0].what == "started"
    assert len(rollout.history[-1].reason) == 500
    assert replace(rollout, state="running").weights() == {1: 95, 2: 5}
