"""Handlers that turn on what runs them: their own descriptors, the node's socket, the supervisor."""

from __future__ import annotations

import asyncio

import pytest

from tests.fault.hostile import APP, problem, push, timed, unharmed
from tests.fixtures.hostile.grabs import FORGED
from tests.integration.node import RunningNode
from tests.support import require, wait_until

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
async def node(docker_node: RunningNode) -> RunningNode:
    require("docker", "images")
    await push(docker_node, "grabs", timeout="3s")
    await push(docker_node, "floods")
    return docker_node


@pytest.mark.parametrize("how", ["close", "close sockets", "shutdown", "mute", "garbage everywhere"])
async def test_who_destroys_its_own_link_dies_of_it(node: RunningNode, how: str) -> None:
    async with unharmed(node, "grabs"):
        reply, took = await timed(node, "grabs", {"how": how})
        assert reply.status in (502, 504), reply
        assert reply.json()["fault"] == "function"
        assert took < 4


async def test_closed_streams_harm_nobody(node: RunningNode) -> None:
    async with unharmed(node, "grabs"):
        reply, _ = await timed(node, "grabs", {"how": "close streams"})
        assert (reply.status, reply.body) == (200, b"survived close streams")


@pytest.mark.parametrize("how", sorted(FORGED))
async def test_forged_frames_cost_one_instance_at_most(node: RunningNode, how: str) -> None:
    """What goes out beside the runtime may answer its own call, end its own instance, or do nothing at all."""
    async with unharmed(node, "grabs"):
        reply, took = await timed(node, "grabs", {"how": how})
        if reply.status != 200:
            assert reply.json()["fault"] in ("function", "platform")
            assert reply.status in (500, 502, 504), reply
        assert took < 4


async def test_the_supervisor_hears_no_signals(node: RunningNode) -> None:
    async with unharmed(node, "grabs"):
        before = (await timed(node, "grabs", {}))[0].headers["X-Faas-Start"]
        reply, _ = await timed(node, "grabs", {"how": "signals"})
        assert (before, reply.status, reply.body) == ("warm", 200, b"survived signals")


async def test_the_supervisor_cannot_be_traced_or_looked_into(node: RunningNode) -> None:
    async with unharmed(node, "grabs"):
        reply, _ = await timed(node, "grabs", {"how": "trace"})
        assert reply.json() == [], "nothing of it is to be had"


async def test_the_nodes_socket_takes_no_second_connection(node: RunningNode) -> None:
    async with unharmed(node, "grabs"):
        reply, took = await timed(node, "grabs", {"how": "second hello"})
        assert reply.status == 200, reply
        assert reply.json() in ([True], ["ConnectionResetError"], ["BrokenPipeError"]), "closed, and nobody's business"
        assert took < 3


@pytest.mark.parametrize("how", ["lines", "long lines", "credit", "pongs"])
async def test_a_flood_of_frames_gets_its_share_of_the_node_and_not_all_of_it(node: RunningNode, how: str) -> None:
    async with unharmed(node, "floods"):
        flood = asyncio.create_task(timed(node, "floods", {"how": how, "seconds": 1}))
        await wait_until(lambda: _runs(node), 5, "it floods")
        took = []
        while not flood.done():
            reply, seconds = await timed(node, "neighbour", {})
            assert reply.status == 200, reply
            took.append(seconds)
        assert (await flood)[0].status == 200
        assert sorted(took)[len(took) // 2] < 0.1, took
        assert max(took) < 0.5, "nobody waits for all of it to be read"


async def test_a_problem_names_the_link_that_broke(node: RunningNode) -> None:
    async with unharmed(node, "grabs"):
        reply, _ = await timed(node, "grabs", {"how": "not msgpack"})
        problem(reply, reply.status, reply.json()["code"], reply.json()["fault"])


async def _runs(node: RunningNode) -> bool:
    return bool((await node.api("GET", f"/v1/functions/floods.{APP}"))["in_flight"])
