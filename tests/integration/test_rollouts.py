"""Rollouts on a real node under real calls: one passes, one goes back by itself, one is moved by hand."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NodeFactory
from tests.integration.node import RunningNode
from tests.support import wait_until

TERMS = ("--every", "1s", "--min-sample", "10", "--max-p95", "none")


@pytest.fixture
async def node(node_factory: NodeFactory) -> RunningNode:
    return await node_factory("--driver", "process")


def write(folder: Path, body: str) -> Path:
    path = folder / "hello.py"
    path.write_text(f"def handler(event):\n    {body}\n")
    return path


@asynccontextmanager
async def callers(node: RunningNode, count: int = 4) -> AsyncIterator[Counter[tuple[int, str]]]:
    """Call `hello` again and again; counts statuses and versions."""
    seen: Counter[tuple[int, str]] = Counter()

    async def call() -> None:
        while True:
            reply = await node.call("hello", json={})
            seen[reply.status, reply.headers.get("X-Faas-Version", "")] += 1
            await asyncio.sleep(0.005)

    tasks = [asyncio.create_task(call()) for _ in range(count)]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def rollout(node: RunningNode) -> dict[str, Any]:
    result = await node.cli("rollout", "status", "hello", "--json")
    assert result.code == 0, result
    found: dict[str, Any] = json.loads(result.out)["rollout"]
    return found


def in_state(node: RunningNode, state: str) -> Callable[[], Any]:
    async def there() -> bool:
        view = (await node.api("GET", "/v1/functions/hello/rollout"))["rollout"]
        return bool(view["state"] == state)

    return there


async def test_a_good_version_passes(node: RunningNode, tmp_path: Path) -> None:
    await node.push(write(tmp_path, "return 'one'"))
    await node.push(write(tmp_path, "return 'two'"), "--alias", "canary")
    async with callers(node) as seen:
        result = await node.cli("rollout", "hello", "--steps", "20,60,100", *TERMS, "--wait")
        assert result.code == 0, result
        seen.clear()
        await wait_until(lambda: seen.total() > 20, 10, "calls afterwards")
    assert "hello@2 passed at 100%" in result.out
    assert set(seen) == {(200, "2")}
    view = await rollout(node)
    assert [(event["what"], event["share"]) for event in view["history"]] == [
        ("started", 20), ("step", 60), ("passed", 100),
    ]  # fmt: skip
    back = await node.cli("rollback", "hello")
    assert "from @2 to @1" in back.out
    trail = await node.cli("audit", "hello", "--json")
    assert "start_rollout" in trail.out


async def test_a_bad_version_goes_back_by_itself(node: RunningNode, tmp_path: Path) -> None:
    await node.push(write(tmp_path, "return 'one'"))
    await node.push(write(tmp_path, "raise RuntimeError('bad day')"), "--alias", "canary")
    async with callers(node) as seen:
        result = await node.cli("rollout", "hello", "--steps", "30,100", *TERMS, "--wait")
        assert result.code == 1, result
        seen.clear()
        await wait_until(lambda: seen.total() > 20, 10, "calls afterwards")
    assert "hello@2 reverted at 0%: errors: " in result.out
    assert set(seen) == {(200, "1")}
    assert (await rollout(node))["state"] == "reverted"


async def test_by_hand_and_without_data(node: RunningNode, tmp_path: Path) -> None:
    await node.push(write(tmp_path, "return 'one'"))
    refused = await node.cli("rollout", "hello")
    assert refused.code == 2
    assert "live already" in refused.err
    for word in ("two", "three"):
        await node.push(write(tmp_path, f"return {word!r}"), "--alias", "canary")
    assert (await node.cli("rollout", "hello", "--steps", "50,100", *TERMS)).code == 0
    second = await node.cli("rollout", "hello", "--to", "2")
    assert second.code == 2
    assert "a rollout of hello@3 is going on, at 50%" in second.err

    # Nobody calls: it does not go on, and says why.
    await wait_until(in_state(node, "paused"), 15, "it pauses")
    assert "no data: the new version had 0 of 10 calls" in (await rollout(node))["reason"]
    assert (await node.cli("rollout", "resume", "hello")).code == 0
    assert (await rollout(node))["state"] == "running"
    assert (await node.cli("rollout", "pause", "hello")).code == 0
    ended = await node.cli("rollout", "abort", "hello")
    assert "hello@3 aborted at 0%: by admin" in ended.out
    assert {(await node.call("hello", json={})).body for _ in range(8)} == {b"one"}
    assert (await node.cli("rollout", "abort", "hello")).code == 2

    # A push to live in the middle of it ends it: the newer wish counts.
    assert (await node.cli("rollout", "hello", "--to", "2", "--steps", "50,100", "--every", "1h")).code == 0
    await node.push(write(tmp_path, "return 'four'"))
    await wait_until(in_state(node, "aborted"), 10, "it notices")
    assert "moved by somebody else" in (await rollout(node))["reason"]
    assert (await node.call("hello", json={})).body == b"four"
