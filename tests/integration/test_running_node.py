"""The node from outside: it starts, survives kill -9, stops when asked, and leaves nothing behind."""

from __future__ import annotations

import os

import pytest

from tests.conftest import NodeFactory
from tests.integration.node import RunningNode
from tests.leftovers import look
from tests.support import ROOT, require, wait_until


@pytest.fixture
async def node(node_factory: NodeFactory) -> RunningNode:
    return await node_factory("--driver", "process")


async def test_it_says_who_it_is(node: RunningNode) -> None:
    status = await node.api("GET", "/v1/status")
    assert status["node"]["id"] == node.node_id
    assert status["node"]["driver"] == "process"
    assert (node.data_dir / "admin-token").stat().st_mode & 0o777 == 0o600


async def test_a_function_is_pushed_and_called(node: RunningNode) -> None:
    await node.push(ROOT / "examples" / "hello.py")
    reply = await node.call("hello", json={"name": "Ada"})
    assert (reply.status, reply.json()) == (200, {"message": "Hello, Ada!"})


async def test_it_forgets_nothing_by_kill_9(node: RunningNode) -> None:
    await node.push(ROOT / "examples" / "hello.py")
    await node.kill9()
    assert not node.running
    # Instances end with their node, and so does its Redis.
    await wait_until(lambda: not look(node.data_dir).processes, 10, "the processes of a killed node end")
    await node.start()
    reply = await node.call("hello", json={"name": "Ada"})
    assert reply.json() == {"message": "Hello, Ada!"}


async def test_sigterm_ends_it(node_factory: NodeFactory) -> None:
    node = await node_factory("--driver", "process")
    pid = node.pid
    await node.stop()
    assert not node.running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_wrong_flag_is_said_at_once(node_factory: NodeFactory) -> None:
    with pytest.raises(AssertionError, match=r"ended with 2 before it was ready[\s\S]*--drivr"):
        await node_factory("--drivr", "process")


async def test_the_shared_node_runs_functions_in_containers(docker_node: RunningNode) -> None:
    await docker_node.push(ROOT / "examples" / "hello.py", "--name", "harness-hello")
    reply = await docker_node.call("harness-hello", json={"name": "Ada"})
    assert (reply.status, reply.json()) == (200, {"message": "Hello, Ada!"})
    assert look(docker_node.data_dir, labels={"faas.node": docker_node.node_id}).containers


async def test_containers_end_with_a_killed_node(node_factory: NodeFactory) -> None:
    require("docker", "images")
    node = await node_factory("--driver", "docker")
    await node.push(ROOT / "examples" / "hello.py")
    await node.kill9()
    await node.assert_clean(crashed=True)
