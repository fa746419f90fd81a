"""Code that does not load, loads for ever, or does harm while it loads: the push fails, what was live stays."""

from __future__ import annotations

import re
import time

import pytest

from tests.fault import engine
from tests.fault.hostile import APP, assert_serves, last_event, problem, push, timed, unharmed
from tests.integration.node import RunningNode
from tests.support import require, wait_until

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
async def node(docker_node: RunningNode) -> RunningNode:
    require("docker", "images")
    await push(docker_node)
    return docker_node


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("missing", "start_failed", "No module named 'a_module_that_is_not_there'"),
        ("syntax", "start_failed", "SyntaxError"),
        ("slow_import", "start_failed", "start_timeout (1 s)"),
        ("spins_at_import", "start_failed", "start_timeout (1 s)"),
        ("exits_at_import", "instance_died", "code 9"),
        ("eats_at_import", "instance_died", "out of memory"),
    ],
)
async def test_what_does_not_load_fails_the_push_and_leaves_nothing(
    node: RunningNode, name: str, code: str, said: str
) -> None:
    begun = time.monotonic()
    event = await last_event(node, name, start_timeout="1s")
    assert event.phase == "failed", event
    assert event.error is not None
    assert (event.error["code"], event.error["fault"]) == (code, "function")
    assert said in event.error["detail"]
    assert time.monotonic() - begun < 6
    reply, took = await timed(node, name, {})
    problem(reply, 404, "not_found", "caller")
    assert took < 1
    await assert_serves(node, "neighbour")


async def test_a_broken_push_leaves_the_live_version_alone(node: RunningNode) -> None:
    good = await last_event(node, "hangs_again", env={"FROM": "0", "UNTIL": "0"})
    bad = await last_event(node, "hangs_again", env={"FROM": "0", "UNTIL": "1e12"}, start_timeout="1s")
    assert (good.phase, bad.phase) == ("done", "failed")
    await assert_serves(node, "hangs_again")


async def test_threads_and_processes_from_the_import_go_with_their_instance(node: RunningNode) -> None:
    await push(node, "crowd", memory="128M")
    first, _ = await timed(node, "crowd", {})
    assert first.json() >= 5, "they are there: the supervisor, its child and what that has started"
    died, _ = await timed(node, "crowd", {"how": "exit"})
    assert "code 4" in problem(died, 502, "instance_died")["detail"]
    again, took = await timed(node, "crowd", {})
    assert (again.json(), took < 3) == (first.json(), True), "not twice as many"
    before = await engine.instances(node.node_id)
    assert (await node.cli("rm", f"crowd.{APP}", "--yes")).code == 0
    await wait_until(lambda: _fewer(node, before), 10, "its container is gone")


@pytest.mark.parametrize(
    ("name", "said"),
    [("hangs_again", r"start_timeout \(1 s\)"), ("dies_again", r"code 6|start_timeout \(1 s\)")],
)
async def test_what_does_not_load_a_second_time_is_told_and_recovers(node: RunningNode, name: str, said: str) -> None:
    """The process died, and its successor cannot load: callers hear why instead of waiting for nothing."""
    start = time.time() + 1.5
    env = {"FROM": str(start), "UNTIL": str(start + 4)}
    event = await last_event(node, name, env=env, start_timeout="1s", timeout="8s", max=1)
    assert event.phase == "done", event
    await wait_until(lambda: time.time() > start, 3, "it hangs from now on")
    async with unharmed(node, "neighbour"):
        died, _ = await timed(node, name, {"how": "exit"})
        problem(died, 502, "instance_died")
        reply, took = await timed(node, name, {})
        assert reply.status in (500, 502, 504), reply
        assert re.search(said, reply.json()["detail"]), reply
        assert took < 6

    async def serves() -> bool:
        return (await timed(node, name, {}))[0].status == 200

    await wait_until(serves, 12, "it serves as soon as it can load")


async def _fewer(node: RunningNode, before: set[str]) -> bool:
    return bool(before - await engine.instances(node.node_id))
