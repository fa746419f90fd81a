"""Handlers that end themselves: the call that did it is told how, nobody else notices."""

from __future__ import annotations

import asyncio

import pytest

from tests.fault.hostile import assert_serves, problem, push, timed, unharmed
from tests.integration.node import RunningNode
from tests.support import require, wait_until

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
async def node(docker_node: RunningNode) -> RunningNode:
    require("docker", "images")
    await push(docker_node, "ends")
    return docker_node


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "ZeroDivisionError: division by zero"),
        ("sys.exit", "SystemExit: 3"),
        ("sys.exit text", "SystemExit: enough"),
        ("interrupt", "KeyboardInterrupt"),
        ("recursion", "RecursionError"),
        ("everybody", "ProcessLookupError"),
    ],
)
async def test_an_exception_ends_the_call_and_not_the_instance(node: RunningNode, how: str, said: str) -> None:
    async with unharmed(node, "ends"):
        reply, took = await timed(node, "ends", {"how": how})
        document = problem(reply, 500, "handler_raised")
        assert said in document["detail"]
        assert "ends.py" in document["traceback"]
        assert took < 2


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("os._exit", "code 7"),
        ("os._exit 0", "code 0"),
        ("exit in a thread", "code 5"),
        ("segfault", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("SIGKILL", "SIGKILL"),
        ("SIGTERM", "SIGTERM"),
        ("group", "SIGKILL"),
        ("cpu limit", "SIGKILL"),
        ("exec", "code 0"),
    ],
)
async def test_a_death_is_502_with_its_cause(node: RunningNode, how: str, said: str) -> None:
    async with unharmed(node, "ends"):
        reply, took = await timed(node, "ends", {"how": how})
        if reply.status == 200:
            assert reply.body.decode() == said
        else:
            document = problem(reply, 502, "instance_died")
            assert said in document["detail"]
            assert document["exit"]["oom"] is False
        assert took < 10


async def test_memory_past_the_limit_is_told_as_such(node: RunningNode) -> None:
    async with unharmed(node, "ends"):
        reply, took = await timed(node, "ends", {"how": "memory"})
        document = problem(reply, 502, "instance_died")
        assert "out of memory" in document["detail"]
        assert "memory" in document["hint"]
        assert document["exit"]["oom"] is True
        assert took < 10


async def test_a_fork_bomb_stays_within_its_container(node: RunningNode) -> None:
    """It ends by its deadline, or earlier by its memory; meanwhile the neighbour is served."""
    await push(node, "ends", timeout="2s")
    bomb = asyncio.create_task(timed(node, "ends", {"how": "fork bomb"}))
    while not bomb.done():
        reply, took = await timed(node, "neighbour", {})
        assert (reply.status, took < 2) == (200, True), took
        await asyncio.sleep(0.05)
    reply, took = await bomb
    assert reply.status in (502, 504), reply
    assert reply.json()["fault"] == "function"
    assert took < 12

    async def serves() -> bool:
        return (await timed(node, "ends", {}))[0].status == 200

    await wait_until(serves, 15, "the dead are cleared away")
    async with unharmed(node, "ends"):
        pass


async def test_ten_deaths_at_once_cost_ten_calls(node: RunningNode) -> None:
    async with unharmed(node, "ends"):
        deaths = [timed(node, "ends", {"how": "segfault"}) for _ in range(10)]
        calm = [timed(node, "ends", {}) for _ in range(10)]
        replies = await asyncio.gather(*deaths, *calm)
        assert [reply.status for reply, _ in replies] == [502] * 10 + [200] * 10
        await assert_serves(node, "ends")


async def test_a_stopped_process_is_ended_by_its_deadline(node: RunningNode) -> None:
    await push(node, "ends", timeout="1s")
    async with unharmed(node, "ends"):
        reply, took = await timed(node, "ends", {"how": "SIGSTOP"})
        problem(reply, 504, "deadline_exceeded")
        assert 0.9 < took < 3
