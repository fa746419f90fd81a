"""A rollout goes on when the node that drives it is killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.balancer import Balancer
from tests.fault.conftest import NodeMaker
from tests.integration.node import RunningNode
from tests.support import wait_until


@pytest.mark.slow
async def test_another_node_drives_on(make_node: NodeMaker, fresh_redis: Callable[[], str], tmp_path: Path) -> None:
    env = {"FAAS_REDIS_URL": fresh_redis()}
    leader = await make_node("--driver", "process", env=env)
    await wait_until(lambda: "this node leads now" in leader.log(), 10, "it leads")
    other = await make_node("--driver", "process", env=env)
    path = tmp_path / "hello.py"
    for word, alias in (("one", "live"), ("two", "canary")):
        path.write_text(f"def handler(event): return {word!r}\n")
        await leader.push(path, "--alias", alias)
    async with Balancer([leader.url, other.url], "/function/hello") as load:
        flags = ("--steps", "30,60,100", "--every", "2s", "--min-sample", "20", "--max-p95", "none")
        assert (await other.cli("rollout", "hello", *flags)).code == 0
        await wait_until(lambda: load.ready == {leader.url, other.url}, 5, "both serve")
        await leader.kill9()
        await wait_until(lambda: _state(other, "passed"), 40, "it has passed")
        load.outcomes.clear()
        await wait_until(lambda: len(load.outcomes) > 10, 10, "calls go on")
        assert {one.body for one in load.outcomes} == {"two"}
    view = (await other.api("GET", "/v1/functions/hello/rollout"))["rollout"]
    assert [event["share"] for event in view["history"]] == [30, 60, 100]


async def _state(node: RunningNode, state: str) -> bool:
    view = (await node.api("GET", "/v1/functions/hello/rollout"))["rollout"]
    return bool(view["state"] == state)
