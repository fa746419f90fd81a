"""Nothing that is done to a running cluster costs a caller a call: pushes, rollbacks, scaling, a node that leaves.

Only what was in flight on a node at the moment of its kill -9 may fail.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest

from faas.archive import File, pack
from faas.model import FunctionPush, Push, Settings
from faas.sdk.client import Client
from tests.fault.balancer import Balancer, Outcome
from tests.fault.conftest import NodeMaker
from tests.integration.node import RunningNode
from tests.support import wait_until

PUSHES, ROLLBACKS, MOST = 20, 5, 3
SETTINGS = Settings(memory=64 << 20, max=MOST, idle_s=2.0)


async def push(client: Client, name: str, word: str) -> None:
    """Put live a function that answers `word` after a moment."""
    text = f"import time\ndef handler(event):\n    time.sleep(0.005)\n    return {word!r}\n"
    archive = pack({"main.py": File(text.encode(), False)})
    await client.put_bundle(archive.digest, archive.data)
    items = [FunctionPush(name=name, code=archive.digest, settings=SETTINGS)]
    events = [event async for event in client.push("default", Push(functions=items))]
    assert events[-1].phase == "done", events[-1]


async def instances(node: RunningNode, name: str) -> int:
    found: int = (await node.api("GET", f"/v1/functions/{name}"))["instances"]
    return found


def failures(outcomes: list[Outcome]) -> list[Outcome]:
    return [one for one in outcomes if one.status != 200]


@pytest.mark.slow
async def test_no_call_fails(make_node: NodeMaker, fresh_redis: Callable[[], str]) -> None:
    env = {"FAAS_REDIS_URL": fresh_redis()}
    nodes = [await make_node("--driver", "process", "--node-name", name, env=env) for name in ("stays", "goes")]
    stays, goes = nodes
    async with Client(stays.url, stays.token) as first, Client(goes.url, goes.token) as second:
        await push(first, "hello", "v0")
        await push(first, "burst", "b")
        await wait_until(lambda: knows(goes, "hello"), 5, "the other node knows it")
        async with Balancer([node.url for node in nodes], "/function/hello") as load:
            await pushes_and_rollbacks(first, second, load)
            await zero_to_max_to_zero(nodes, load)
            await drained_and_back(first, goes, load)
            assert failures(load.outcomes) == []
            killed_at = time.monotonic()
            await goes.kill9()
            await wait_until(lambda: load.ready == {stays.url}, 5, "the balancer notices")
            await calls_since(load, time.monotonic(), 50)
        lost = failures(load.outcomes)
        in_flight = [one for one in lost if one.url == goes.url and one.began <= killed_at + 0.2 and one.status == 0]
        assert lost == in_flight, "only what was in flight on the killed node"
        assert len(lost) <= 4, "at most one a caller"
    by_node = Counter(one.url for one in load.outcomes)
    assert min(by_node[node.url] for node in nodes) > 50, "both had their share"


async def knows(node: RunningNode, name: str) -> bool:
    return (await node.call(name, json={})).status == 200


async def calls_since(load: Balancer, moment: float, count: int) -> None:
    """So many calls that began after `moment` have ended."""
    await wait_until(lambda: sum(one.began > moment for one in load.outcomes) >= count, 15, "calls go on")


async def pushes_and_rollbacks(first: Client, second: Client, load: Balancer) -> None:
    for number in range(1, PUSHES + 1):
        await push(first if number % 2 else second, "hello", f"v{number}")
    moved = time.monotonic()
    await calls_since(load, moved + 0.2, 20)
    assert {one.body for one in load.outcomes if one.began > moved + 0.2} == {f"v{PUSHES}"}
    for number in range(ROLLBACKS):
        began = time.monotonic()
        await (second if number % 2 else first).rollback("hello")
        assert time.monotonic() - began < 2.0, "a pointer moves"
        await calls_since(load, time.monotonic(), 5)
    moved = time.monotonic()
    await calls_since(load, moved + 0.2, 20)
    assert {one.body for one in load.outcomes if one.began > moved + 0.2} == {f"v{PUSHES - 1}"}


async def zero_to_max_to_zero(nodes: list[RunningNode], load: Balancer) -> None:
    async def none() -> bool:
        return sum([await instances(node, "burst") for node in nodes]) == 0

    await wait_until(none, 15, "burst is at zero")
    outcomes = await asyncio.gather(*(load.once("/function/burst") for _ in range(60)))
    assert failures(list(outcomes)) == []
    for node in nodes:
        assert await instances(node, "burst") <= MOST
    await wait_until(none, 15, "burst is at zero again")


async def drained_and_back(client: Client, goes: RunningNode, load: Balancer) -> None:
    await client.drain_node("goes", 1.5)
    left = time.monotonic()

    async def empty() -> bool:
        return await instances(goes, "hello") == 0

    await wait_until(empty, 15, "the drained node is empty")
    refused = await goes.call("hello", json={})
    assert (refused.status, refused.json()["code"]) == (503, "unavailable")
    assert "drained" in refused.json()["detail"]
    assert refused.headers["Retry-After"]
    assert [node["draining"] for node in await client.nodes() if node["name"] == "goes"] == [True]
    await calls_since(load, left, 20)
    await client.undrain_node("goes")
    back = time.monotonic()
    await wait_until(lambda: any(one.url == goes.url and one.began > back for one in load.outcomes), 10, "it is back")
