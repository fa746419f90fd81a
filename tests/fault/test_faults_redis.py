"""Redis is gone for ten seconds, killed, or back without its data: functions that are known run on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from faas.archive import File, pack
from tests.fault.conftest import NodeMaker
from tests.fault.faults import OwnRedis, calling, handler, is_at_zero, is_ready, problems
from tests.fault.hostile import DEFECT
from tests.integration.conftest import put
from tests.integration.node import RunningNode
from tests.support import require, wait_until

BACK_S = 5.0
"""Seconds after Redis is back in which a node must have caught up."""
BOUND_S = 15.0
"""Seconds after which everybody has been told that a silent Redis does not answer."""


@pytest.fixture
def own() -> Iterator[OwnRedis]:
    """A server that the test may harm."""
    require("bwrap")
    with OwnRedis() as server:
        yield server


async def test_redis_is_silent_for_ten_seconds(own: OwnRedis, make_node: NodeMaker, tmp_path: Path) -> None:
    """Frozen: connections stand and nothing comes, the worst kind of gone."""
    env = {"FAAS_REDIS_URL": own.url}
    first = await make_node("--driver", "process", env=env)
    second = await make_node("--driver", "process", env=env)
    await put(first, handler(tmp_path, "warm"))
    await put(first, handler(tmp_path, "cold"), idle="1s")
    await wait_until(lambda: is_at_zero(first, "cold"), 10, "cold is at zero")
    assert (await first.call("warm", json={})).status == 200
    async with calling(first, "warm") as warm:
        frozen = time.monotonic()
        own.freeze()
        reply = await first.call("cold", json={})
        assert (reply.status, reply.headers["X-Faas-Start"]) == (200, "cold")
        assert time.monotonic() - frozen < 2, "a cold start of a known function needs no Redis"
        found = await problems(first)
        assert set(found) == {"redis"}
        assert "not answer" in found["redis"]
        stored, accepted = await asyncio.gather(_store(first), _enqueue(first))
        assert (stored["status"], accepted["status"]) == (503, 503), "what cannot be stored is not accepted"
        for refused in (stored, accepted):
            assert refused["fault"] == "platform", refused
            assert "Redis" in refused["detail"]
        assert time.monotonic() - frozen < BOUND_S
        await asyncio.sleep(max(0.0, 10 - (time.monotonic() - frozen)))
        own.thaw()
        await _caught_up(first, second, tmp_path)
    assert warm.statuses == {200}
    assert warm.slowest() < 1
    for node in (first, second):
        assert "Redis does not answer" in node.log()
        assert DEFECT not in node.log()


async def test_redis_killed_and_started_again(own: OwnRedis, make_node: NodeMaker, tmp_path: Path) -> None:
    env = {"FAAS_REDIS_URL": own.url}
    first = await make_node("--driver", "process", env=env)
    second = await make_node("--driver", "process", env=env)
    await put(first, handler(tmp_path, "warm"))
    await put(first, handler(tmp_path, "cold"), idle="1s")
    await wait_until(lambda: is_at_zero(first, "cold"), 10, "cold is at zero")
    async with calling(first, "warm") as warm:
        own.kill()
        assert (await first.call("cold", json={})).status == 200
        found = await problems(first)
        assert set(found) == {"redis"}
        began = time.monotonic()
        result = await first.cli("push", str(handler(tmp_path, "refused")))
        assert result.code == 3, result
        assert "Redis" in result.err
        assert "does not answer" in result.err
        assert time.monotonic() - began < 5, "a dead server is noticed at once"
        own.start()
        await _caught_up(first, second, tmp_path)

        # Back without its data: the nodes are all that is left of the registry.
        own.kill()
        own.start(empty=True)
        await wait_until(lambda: is_ready(first), BACK_S, "Redis answers the first node")
        await wait_until(lambda: _knows(own, "after"), BACK_S, "the registry is written back")
        for node in (first, second):
            assert (await node.call("after", json={})).body == b"fine"
        await put(second, handler(tmp_path, "after", "def handler(event): return 'changed'\n"))
        await wait_until(lambda: _says(first, "after", b"changed"), BACK_S, "changes are followed again")
    assert warm.statuses == {200}
    assert "Redis came back empty" in first.log() + second.log()
    assert not await problems(first)
    for node in (first, second):
        assert DEFECT not in node.log()


async def _caught_up(first: RunningNode, second: RunningNode, folder: Path) -> None:
    """Both are ready again, and what is pushed to one is known to the other."""
    for node in (first, second):
        await wait_until(partial(is_ready, node), BACK_S, "ready again")
    await put(first, handler(folder, "after"))
    await wait_until(lambda: _says(second, "after", b"fine"), BACK_S, "the change stream is followed again")


async def _store(node: RunningNode) -> dict[str, Any]:
    archive = pack({"main.py": File(b"def handler(event): return 'new'\n")})
    headers = {"Authorization": f"Bearer {node.token}"}
    async with node.http.put(f"/v1/bundles/{archive.digest}", data=archive.data, headers=headers) as answer:
        problem: dict[str, Any] = await answer.json()
        return problem


async def _enqueue(node: RunningNode) -> dict[str, Any]:
    async with node.http.post("/async-function/warm", json={}) as answer:
        problem: dict[str, Any] = await answer.json()
        return problem


async def _says(node: RunningNode, name: str, body: bytes) -> bool:
    return (await node.call(name, json={})).body == body


async def _knows(own: OwnRedis, name: str) -> bool:
    return any(name in field for field in await asyncio.to_thread(own.registry))
