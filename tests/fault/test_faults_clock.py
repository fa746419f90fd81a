"""The node's clock is stepped by an hour, forth and back: deadlines, idle times, leases and heartbeats do not care."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.conftest import NodeMaker
from tests.fault.faults import calling, handler, problems, serves
from tests.fault.hostile import DEFECT
from tests.integration.conftest import put
from tests.integration.node import RunningNode
from tests.support import FAKETIME, require, wait_until

HOUR_S = 3600


@pytest.mark.parametrize("step_s", [HOUR_S, pytest.param(-HOUR_S, marks=pytest.mark.slow)])
async def test_a_stepped_clock_ends_nothing_early_and_nothing_late(
    make_node: NodeMaker, fresh_redis: Callable[[], str], tmp_path: Path, pool_function: Path, step_s: int
) -> None:
    require("faketime", "bwrap")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    redis = {"FAAS_REDIS_URL": fresh_redis()}
    node = await make_node("--driver", "process", "--node-name", "stepped", env=faked | redis)
    other = await make_node("--driver", "process", "--node-name", "other", env=redis)
    await put(node, pool_function, timeout="3s", min=2, max=3)
    await put(node, handler(tmp_path, "idle"), idle="5m")
    await put(node, handler(tmp_path, "steady"), min=1)
    for name in ("idle", "steady"):
        await node.call(name, json={})

    await wait_until(lambda: _idle(node, "pool", 2), 20, "two instances wait")
    async with calling(node, "steady") as steady:
        began = time.monotonic()
        running = asyncio.create_task(node.call("pool", json={"sleep": 1.5}))
        late = asyncio.create_task(node.call("pool", json={"sleep": 60}))
        accepted = await _enqueue(node)
        await wait_until(lambda: _in_flight(node, 2), 5, "both calls run")
        clock.write_text(f"{step_s:+d}")
        await wait_until(lambda: _believes(node, step_s), 5, "the node believes its clock")
        assert (await running).status == 200, "no deadline came early"
        assert (await late).status == 504
        assert 3 <= time.monotonic() - began < 6, "and none came late"
        await wait_until(lambda: _succeeded(node, accepted), 10, "a background call is neither lost nor late")
        again = await _enqueue(node)
        await wait_until(lambda: _succeeded(node, again), 10, "nor is one accepted since")
        # Longer than a lease (5 s) and a look for idle instances; a heartbeat counts for 15 s by Redis' clock.
        while time.monotonic() - began < 8:
            assert await _nodes(node) == await _nodes(other) == ["other", "stepped"]
            await asyncio.sleep(0.5)
    assert steady.statuses == {200}
    assert steady.slowest() < 1
    assert (await node.call("idle", json={})).headers["X-Faas-Start"] == "warm", "it was idle for seconds, not an hour"
    await put(other, handler(tmp_path, "after"))
    await wait_until(lambda: serves(node, "after"), 5, "changes of a node with another clock are followed")
    await put(node, handler(tmp_path, "before", "def handler(event): return 'new'\n"))
    await wait_until(lambda: serves(other, "before"), 5, "and the other way round")
    assert not await problems(node)
    for one in (node, other):
        assert DEFECT not in one.log()
        assert "does not answer" not in one.log()


async def _enqueue(node: RunningNode) -> str:
    async with node.http.post("/async-function/steady", json={}) as answer:
        assert answer.status == 202, await answer.text()
        return str((await answer.json())["id"])


async def _succeeded(node: RunningNode, id: str) -> bool:
    found = (await node.api("GET", f"/v1/invocations/{id}"))["invocation"]
    assert found["state"] in ("waiting", "running", "succeeded"), found
    return bool(found["state"] == "succeeded")


async def _idle(node: RunningNode, name: str, count: int) -> bool:
    pools = (await node.api("GET", f"/v1/functions/{name}"))["pools"]
    return bool(pools and pools[0]["states"].get("idle") == count)


async def _believes(node: RunningNode, step_s: int) -> bool:
    seen_at = (await node.api("GET", "/v1/status"))["node"]["seen_at"]
    return bool(abs(seen_at - time.time() - step_s) < 60)


async def _in_flight(node: RunningNode, count: int) -> bool:
    return bool((await node.api("GET", "/v1/functions/pool"))["in_flight"] == count)


async def _nodes(node: RunningNode) -> list[str]:
    return sorted(one["name"] for one in (await node.api("GET", "/v1/nodes"))["nodes"])
