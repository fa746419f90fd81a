"""Thousands of connections that do nothing, and hundreds of half-sent heads, beside somebody who works."""

from __future__ import annotations

import asyncio
import resource
import shutil
import time

import pytest
from yarl import URL

from tests.fault.conftest import NodeMaker
from tests.fault.hostile import APP, FIXTURES
from tests.integration.conftest import put
from tests.integration.node import RunningNode
from tests.support import require

pytestmark = pytest.mark.docker
IDLE, HALF, CALLS = 2_000, 200, 300
SOFT, HARD = 1_024, 8_192


@pytest.fixture
async def node(make_node: NodeMaker) -> RunningNode:
    """A node that is started with the usual low limit on open files."""
    require("docker", "images")
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("needs prlimit: it is not on PATH")
    return await make_node(
        "--driver", "docker", "--stem-cells", "1", "--drain", "1s", wrapper=(prlimit, f"--nofile={SOFT}:{HARD}", "--")
    )


@pytest.fixture
def _open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + HALF + 500:
        pytest.skip(f"needs {IDLE + HALF + 500} open files: the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.mark.usefixtures("_open_files")
async def test_idle_connections_do_not_slow_those_who_work(node: RunningNode) -> None:
    await put(node, FIXTURES / "neighbour.py", app=APP, memory="64M")
    with open(f"/proc/{node.pid}/limits") as file:
        [limit] = [line.split()[3:5] for line in file if line.startswith("Max open files")]
    assert limit == [str(HARD), str(HARD)], "it has taken what the system grants"
    alone = await _slowest(node)
    address = URL(node.url)
    writers = []
    try:
        for count in range(0, IDLE + HALF, 100):
            opened = await asyncio.gather(*(asyncio.open_connection(address.host, address.port) for _ in range(100)))
            writers += [writer for _, writer in opened]
            if count >= IDLE:
                for _, writer in opened:
                    writer.write(f"GET /function/neighbour.{APP} HTTP/1.1\r\nHost: te".encode())
        beside = await _slowest(node)
        assert beside < max(0.05, 5 * alone), f"p99 {beside * 1000:.1f} ms beside them, {alone * 1000:.1f} ms alone"
    finally:
        for writer in writers:
            writer.transport.abort()
    assert (await node.call(f"neighbour.{APP}", json={})).status == 200


async def _slowest(node: RunningNode) -> float:
    """Seconds of the 99th percentile of calls, one after the other."""
    took = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        reply = await node.call(f"neighbour.{APP}", json={})
        took.append(time.perf_counter() - begun)
        assert reply.status == 200, reply
    return sorted(took)[int(CALLS * 0.99)]
