"""Background calls survive kill -9 of the node, of instances and of Redis; a long run is never taken twice."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest

from tests.fault.chaos import FUNCTION, Chaos, OwnRedis, Plan, Recorder
from tests.fault.conftest import NodeMaker
from tests.integration.background import ended, enqueue, look, printed
from tests.integration.conftest import HERE, put
from tests.integration.node import RunningNode
from tests.support import require, wait_until

SMALL = Plan(seed=5, calls=300, kills={"node": 2, "instance": 3, "redis": 3})


async def test_no_accepted_call_is_lost_and_none_runs_more_often_than_a_kill_explains(make_node: NodeMaker) -> None:
    require("redis", "bwrap")
    with tempfile.TemporaryDirectory(prefix="faas-chaos-") as folder:
        async with OwnRedis(Path(folder) / "r") as redis, Recorder() as recorder:
            node = await make_node("--driver", "process", "--redis", redis.url, "--drain", "1s")
            await put(node, HERE / "recorded.py", name=FUNCTION, max=2, retries=6, retry_wait="20ms", retry_cap="100ms")
            account = await Chaos(SMALL, node, redis, recorder).run(ends_within_s=40)
            print(account.show())
            account.check()
            assert account.states["succeeded"] == len(account.accepted), account.show()
            await node.stop()


async def test_a_run_longer_than_its_lease_is_not_taken_twice(make_node: NodeMaker) -> None:
    require("bwrap")
    node = await make_node("--driver", "process", "--drain", "1s")
    await put(node, HERE / "jobs.py", name="jobs", max=3)
    id = await enqueue(node, "jobs", {"sleep": 11.5})
    found = await ended(node, id, 20)
    assert (found["invocation"]["state"], found["invocation"]["attempt"]) == ("succeeded", 1)
    assert await printed(node, "jobs", "run", id) == 1


async def test_what_a_stopping_node_has_not_begun_is_there_for_the_next_without_an_attempt(
    make_node: NodeMaker,
) -> None:
    require("bwrap")
    node = await make_node("--driver", "process", "--drain", "10s")
    await put(node, HERE / "jobs.py", name="jobs", max=1)
    ids = [await enqueue(node, "jobs", {"sleep": 0.5, "n": n}) for n in range(5)]
    await wait_until(lambda: printed(node, "jobs", "run", ids[0]), 10, "the first one runs")
    await node.stop()
    await node.start()
    for id in ids:
        one = (await ended(node, id))["invocation"]
        assert (one["state"], one["attempt"]) == ("succeeded", 1)


@pytest.mark.parametrize("driver", ["process", "docker"])
async def test_a_killed_nodes_calls_run_again_at_once_after_its_restart(make_node: NodeMaker, driver: str) -> None:
    require("bwrap") if driver == "process" else require("docker", "images")
    node = await make_node("--driver", driver, "--drain", "1s")
    await put(node, HERE / "jobs.py", name="jobs", max=1)
    id = await enqueue(node, "jobs", {"sleep": 2})
    await wait_until(lambda: printed(node, "jobs", "run", id), 20, "it runs")
    await node.kill9()
    await node.start()
    restarted = asyncio.get_running_loop().time()
    await wait_until(lambda: _attempt(node, id, 2), 10, "it runs again")
    assert asyncio.get_running_loop().time() - restarted < 6.0, "its lease would have lasted longer"
    found = await ended(node, id)
    assert found["invocation"]["state"] == "succeeded"
    assert [one["cause"] for one in found["tries"]] == ["node_lost"]


async def _attempt(node: RunningNode, id: str, number: int) -> bool:
    one = (await look(node, id))["invocation"]
    return bool(one["attempt"] == number)
