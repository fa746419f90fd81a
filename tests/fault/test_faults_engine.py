"""The engine is down when the node starts, slow, mute, or restarted under load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.docker.engine_proxy import EngineProxy
from tests.fault.conftest import NodeMaker
from tests.fault.engines import PrivateEngine
from tests.fault.faults import calling, handler, is_at_zero, is_ready, problems, serves
from tests.fault.hostile import DEFECT
from tests.integration.conftest import put
from tests.integration.node import RunningNode
from tests.leftovers import assert_nothing_left
from tests.support import require, wait_until

BACK_S = 8.0
"""Seconds after its engine is back in which a node must serve again by itself, on a busy machine."""


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[EngineProxy]:
    """A door to the engine that a test may shut."""
    require("docker", "images", "root")
    async with EngineProxy(tmp_path / "docker.sock") as door:
        yield door


@pytest.fixture
def private() -> Iterator[PrivateEngine]:
    """An engine that a test may stop and kill."""
    with PrivateEngine() as own:
        yield own


async def test_a_node_starts_without_its_engine_and_serves_when_it_comes(
    proxy: EngineProxy, make_node: NodeMaker, pool_function: Path
) -> None:
    node = await make_node("--driver", "docker", "--stem-cells", "0", env={"DOCKER_HOST": f"unix://{proxy.path}"})
    await put(node, pool_function, memory="64M")
    await node.stop()
    await proxy.cut()

    await node.start()
    assert "the engine does not answer: the node starts without it" in node.log()
    found = await problems(node)
    assert set(found) == {"driver"}
    assert str(proxy.path) in found["driver"]
    assert "does not answer" in found["driver"]
    begun = time.monotonic()
    refused = await node.call("pool", json={})
    assert time.monotonic() - begun < 3
    assert refused.status == 503
    document = refused.json()
    assert (document["code"], document["fault"]) == ("unavailable", "platform")
    assert "does not answer" in document["detail"]
    assert "hint" in document
    assert int(refused.headers["Retry-After"]) >= 1
    refused_push = await node.cli("push", str(pool_function), "--name", "other")
    assert refused_push.code == 3, refused_push
    assert "does not answer" in refused_push.err
    assert (await node.cli("ls")).code == 0

    await proxy.mend()
    back = time.monotonic()
    await wait_until(lambda: is_ready(node), BACK_S, "ready again")
    await wait_until(lambda: serves(node, "pool"), BACK_S, "calls are answered again")
    assert time.monotonic() - back < BACK_S
    assert "the engine answers: functions can be started" in node.log()
    await put(node, pool_function, name="other", memory="64M")
    assert DEFECT not in node.log()


async def test_a_slow_engine_slows_starts_and_nothing_else(
    proxy: EngineProxy, make_node: NodeMaker, tmp_path: Path
) -> None:
    node = await make_node("--driver", "docker", "--stem-cells", "0", env={"DOCKER_HOST": f"unix://{proxy.path}"})
    await put(node, handler(tmp_path, "warm"), min=1, max=1, memory="64M")
    await put(node, handler(tmp_path, "cold"), idle="1s", memory="64M")
    await wait_until(lambda: is_at_zero(node, "cold"), 10, "cold is at zero")
    assert (await node.call("warm", json={})).status == 200
    proxy.delay_s = 1.0
    async with calling(node, "warm") as warm:
        began = time.monotonic()
        reply = await node.call("cold", json={})
        took = time.monotonic() - began
        async with node.http.get("/healthz") as answer:
            assert answer.status == 200
    assert (reply.status, reply.headers["X-Faas-Start"]) == (200, "cold")
    assert took > 2, "create and start both were slow"
    assert warm.statuses == {200}
    assert len(warm.answers) > 50
    assert warm.slowest(began) < 0.5, "the loop was never blocked"

    # Mute is worse than slow: it takes connections and says nothing.
    proxy.delay_s, proxy.mute = 0.0, True
    found = await problems(node)
    assert found == {"driver": "the driver did not answer within 3 s"}
    assert (await node.call("warm", json={})).headers["X-Faas-Start"] == "warm"
    proxy.mute = False
    await proxy.cut()
    await proxy.mend()
    await wait_until(lambda: is_ready(node), BACK_S, "ready again")


async def test_an_engine_restarted_under_load_is_back_in_seconds(
    private: PrivateEngine, make_node: NodeMaker, tmp_path: Path, pool_function: Path
) -> None:
    node = await make_node("--driver", "docker", "--stem-cells", "1", env=private.env)
    await put(node, handler(tmp_path, "quick"), min=2, max=2, memory="64M")
    for name in ("one", "two"):
        await put(node, pool_function, name=name, max=1, memory="64M")
    held = [asyncio.create_task(node.call(name, json={"sleep": 60})) for name in ("one", "two")]
    for name in ("one", "two"):
        await wait_until(partial(_counts, node, name, busy=1), 20, f"a call of {name} runs")
    async with calling(node, "quick", callers=2) as load:
        await asyncio.to_thread(private.stop)
        assert "does not answer" in (await problems(node))["driver"]
        for lost in await asyncio.wait_for(asyncio.gather(*held), BACK_S):
            document = lost.json()
            assert (lost.status, document["code"], document["fault"]) == (503, "unavailable", "platform")
            assert "lost while the call ran" in document["detail"]
            assert "repeat it only if running twice does no harm" in document["hint"]
        await asyncio.to_thread(private.start)
        back = time.monotonic()
        await wait_until(lambda: serves(node, "one"), BACK_S, "a cold start works")
        await wait_until(lambda: _counts(node, "quick", idle=2), BACK_S, "min is there again")
        await wait_until(lambda: is_ready(node), BACK_S, "ready again")
        assert time.monotonic() - back < 2 * BACK_S
    failed = [one.reply.json() for one in load.answers if one.reply.status != 200]
    assert {document["fault"] for document in failed} == {"platform"}, failed[:3]
    assert load.answers[-1].reply.status == 200
    # Nothing of before is left: every container runs, and the node knows it.
    await wait_until(lambda: _all_known(node, private), 15, "the engine has only what the node uses")
    assert node.log().count("docker: the engine is away") == 1, "once an outage"

    # Killed, it does not end its containers: what is warm is served without an engine.
    await asyncio.to_thread(private.kill9)
    await wait_until(lambda: _finds_driver(node), 5, "/readyz says so")
    async with calling(node, "quick", callers=2) as warm:
        await wait_until(lambda: len(warm.answers) > 50, 10, "calls go on")
    assert warm.statuses == {200}
    assert DEFECT not in node.log()
    await node.stop()
    await assert_nothing_left(node.data_dir, timeout=2)


async def _all_known(node: RunningNode, private: PrivateEngine) -> bool:
    there = await asyncio.to_thread(private.containers)
    known = sum((await node.api("GET", "/v1/status"))["instances"].values())
    return len(there) == known and all(line.endswith(" running") for line in there)


async def _counts(node: RunningNode, name: str, **states: int) -> bool:
    pools = (await node.api("GET", f"/v1/functions/{name}"))["pools"]
    return bool(pools and pools[0]["states"] == states)


async def _finds_driver(node: RunningNode) -> bool:
    return "does not answer" in (await problems(node)).get("driver", "")
