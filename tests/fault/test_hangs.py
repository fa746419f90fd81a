"""Instances that hang or say that they are ill are replaced within fifteen seconds, by real runtimes and drivers."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import NodeFactory
from tests.integration.node import RunningNode
from tests.support import ROOT, wait_until

HANDLERS = ROOT / "tests" / "fixtures" / "handlers"
REPLACED_S = 15.0


async def last_error(node: RunningNode, name: str) -> Any:
    (pool,) = (await node.api("GET", f"/v1/functions/{name}"))["pools"]
    return pool["last_error"]


async def another_answers(node: RunningNode, name: str, child: str, limit_s: float) -> None:
    """Calls end with an answer of another child. Those who meet the hung one give up after half a second."""

    async def there() -> bool:
        try:
            reply = await node.call(name, json={}, timeout=aiohttp.ClientTimeout(total=0.5))
        except TimeoutError:
            return False
        return reply.status == 200 and reply.json()["child"] != child

    await wait_until(there, limit_s, "another instance answers")


async def spinning_in_a_call(node: RunningNode) -> None:
    await node.push(HANDLERS / "hangs.py", "--max", "1", "--timeout", "25s")
    child = (await node.call("hangs", json={})).json()["child"]
    held = asyncio.create_task(node.call("hangs", json={"spin": "now"}))
    begun = time.monotonic()
    await another_answers(node, "hangs", child, REPLACED_S)
    assert not held.done(), "the call in flight has the time it was promised"
    assert (await held).status == 504
    assert time.monotonic() - begun >= 24
    assert (await node.cli("rm", "hangs", "--yes")).code == 0


@pytest.mark.slow
async def test_processes(node_factory: NodeFactory, tmp_path: Path) -> None:
    """All ways at once: each takes its fifteen seconds."""
    node = await node_factory("--driver", "process")
    later = tmp_path / "later.py"
    later.write_text((HANDLERS / "hangs.py").read_text())
    for path in (later, HANDLERS / "freezes.py", HANDLERS / "healthy.py"):
        await node.push(path, "--idle", "5m")
    ill = asyncio.create_task(spinning_in_a_call(node))
    for name, event in (("later", {"spin": "later"}), ("freezes", {"freeze": True}), ("healthy", {"fine": False})):
        assert (await node.call(name, json=event)).status == 200
    begun = time.monotonic()
    for name, words in (("later", "did not answer"), ("freezes", "did not answer"), ("healthy", "")):
        left = REPLACED_S - (time.monotonic() - begun)
        found = await wait_until(partial(last_error, node, name), left, f"{name} is found")
        assert words in found
    shown = await node.cli("show", "later")
    assert "did not answer the node's pings" in shown.out
    for name in ("later", "freezes"):
        assert (await node.call(name, json={})).status == 200
    assert (await node.call("healthy", json={"fine": True})).status == 200
    await ill


@pytest.mark.slow
@pytest.mark.docker
async def test_a_container(docker_node: RunningNode) -> None:
    await spinning_in_a_call(docker_node)
