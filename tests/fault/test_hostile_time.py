"""Handlers that do not end: 504 at the deadline, and their place is taken by somebody who works."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from tests.fault.hostile import APP, problem, push, timed, unharmed
from tests.integration.conftest import log_lines
from tests.integration.node import RunningNode
from tests.support import require, wait_until

pytestmark = pytest.mark.docker
TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
async def node(docker_node: RunningNode) -> RunningNode:
    require("docker", "images")
    # One instance: who comes next has to wait until what did not end is out of the way.
    await push(docker_node, "stays", "stays_async", timeout=f"{TIMEOUT_S}s", max=1)
    return docker_node


@pytest.mark.parametrize("how", ["sleep", "polite", "spin", "C", "deaf"])
async def test_what_does_not_end_is_504_and_replaced(node: RunningNode, how: str) -> None:
    reply, took = await timed(node, "stays", {"how": how})
    document = problem(reply, 504, "deadline_exceeded")
    assert "0.5" in document["detail"]
    assert "timeout" in document["hint"]
    assert TIMEOUT_S <= took < TIMEOUT_S + 1
    # At most CANCEL_GRACE_MS until it is killed; a caller who comes meanwhile waits, but no longer than his own time.
    await wait_until(lambda: _answers(node, "stays"), 6, "it serves again")
    async with unharmed(node, "stays"):
        pass


@pytest.mark.parametrize(("how", "within_s"), [("polite", 1.5), ("deaf", 4), ("C", 4)])
async def test_when_the_caller_leaves_the_handler_is_asked_and_then_made_to_end(
    node: RunningNode, how: str, within_s: float
) -> None:
    await push(node, "stays", timeout="30s", max=1)
    with pytest.raises(TimeoutError):
        await timed(node, "stays", {"how": how}, timeout=aiohttp.ClientTimeout(total=0.3))
    begun = time.monotonic()
    async with unharmed(node, "stays"):
        reply, _ = await timed(node, "stays", {})
        assert (reply.status, time.monotonic() - begun < within_s) == (200, True)
    if how == "polite":
        await wait_until(lambda: _said(node, "cleaned up"), 5, "its last words are in the log")


@pytest.mark.parametrize("how", ["sleep", "deaf", "blocks"])
async def test_on_a_loop_others_are_not_cut_down_with_it(node: RunningNode, how: str) -> None:
    beside = [asyncio.create_task(timed(node, "stays_async", {"seconds": 0.2})) for _ in range(3)]
    await asyncio.sleep(0.05)
    reply, took = await timed(node, "stays_async", {"how": how})
    problem(reply, 504, "deadline_exceeded")
    assert TIMEOUT_S <= took < TIMEOUT_S + 1
    statuses = {reply.status for reply, _ in await asyncio.gather(*beside)}
    # Who blocks the loop takes the others' time with it.
    assert statuses == {200} if how != "blocks" else statuses <= {200, 502, 504}
    await wait_until(lambda: _answers(node, "stays_async"), 6, "it serves again")
    async with unharmed(node, "stays_async"):
        pass


async def _answers(node: RunningNode, name: str) -> bool:
    reply, _ = await timed(node, name, {})
    assert reply.status in (200, 504), reply
    return reply.status == 200


async def _said(node: RunningNode, text: str) -> bool:
    return any(line.text == text for line in await log_lines(node, f"stays.{APP}"))
