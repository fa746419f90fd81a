"""kill -9 of the processes in a container, of a supervisor, of a node with twenty warm instances, during an upload."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import docker

from faas.archive import File, pack
from tests.fault import engine
from tests.fault.conftest import NodeMaker
from tests.fault.faults import handler, problems
from tests.fault.hostile import DEFECT
from tests.integration.conftest import put
from tests.integration.node import RunningNode
from tests.leftovers import assert_nothing_left, look
from tests.support import require, wait_until

MANY = 20


async def test_kill_9_of_what_runs_in_a_container(make_node: NodeMaker, pool_function: Path) -> None:
    """First the child that runs the function, then the supervisor above it."""
    require("docker", "images", "root")
    node = await make_node("--driver", "docker", "--stem-cells", "0")
    await put(node, pool_function, max=1, memory="64M")
    first = await engine.instances(node.node_id)
    assert len(first) == 1

    supervisor, child = await _processes(*first)
    reply = await _killed_during_a_call(node, child)
    assert (reply["status"], reply["code"], reply["fault"]) == (502, "instance_died", "function")
    assert "SIGKILL" in reply["detail"]
    assert (await node.call("pool", json={})).status == 200
    assert await engine.instances(node.node_id) == first, "the container stayed"

    supervisor, child = await _processes(*first)
    reply = await _killed_during_a_call(node, supervisor)
    assert (reply["status"], reply["code"]) == (502, "instance_died")
    assert "SIGKILL" in reply["detail"]
    assert (await node.call("pool", json={})).status == 200
    await wait_until(lambda: _one_other(node, first), 10, "one other container, and no trace of the first")
    assert not (node.data_dir / "instances" / next(iter(first))).exists()
    assert not await problems(node)
    assert DEFECT not in node.log()


async def test_kill_9_of_a_node_with_twenty_warm_instances(make_node: NodeMaker, tmp_path: Path) -> None:
    require("docker", "images", "root")
    node = await make_node("--driver", "docker", "--stem-cells", "0", "--memory", "4G")
    labels = {"faas.node": node.node_id}
    await node.stop()
    before = look(node.data_dir, labels=labels)
    await node.start()
    await put(node, handler(tmp_path, "many"), min=MANY, max=MANY, memory="32M")
    await wait_until(lambda: _has(node, MANY), 60, f"{MANY} containers run")
    assert len(look(node.data_dir, labels=labels).sockets) >= MANY

    await node.kill9()
    await assert_nothing_left(
        node.data_dir, labels=labels, kinds=("containers", "processes"), running_only=True, timeout=10
    )
    await node.start()
    assert not [one for one in look(node.data_dir, labels=labels).containers if " exited " in one or " dead " in one]
    assert node.log().count("removing an instance left by a killed node") == MANY
    assert (await node.call("many", json={})).status == 200
    await node.cli("scale", "many", "--min", "0", "--max", "1")
    await node.stop()
    assert not look(node.data_dir, labels=labels) - before


async def test_a_node_killed_while_a_bundle_comes_in(make_node: NodeMaker, tmp_path: Path) -> None:
    node = await make_node("--driver", "process", "--stem-cells", "0")
    archive = pack({f"data{at}.bin": File(os.urandom(200_000)) for at in range(10)})
    half = asyncio.Event()

    async def body() -> object:
        yield archive.data[: len(archive.data) // 2]
        half.set()
        await asyncio.sleep(60)

    headers = {"Authorization": f"Bearer {node.token}"}
    upload = asyncio.create_task(node.http.put(f"/v1/bundles/{archive.digest}", data=body(), headers=headers))
    await half.wait()
    await node.kill9()
    for error in await asyncio.gather(upload, return_exceptions=True):
        assert isinstance(error, aiohttp.ClientError)
    await node.start()
    assert list((node.data_dir / "store").iterdir()) == []
    # Killed while it unpacks: the whole has come, and what there is of it is whole or nothing.
    upload = asyncio.create_task(
        node.http.put(f"/v1/bundles/{archive.digest}", data=io.BytesIO(archive.data), headers=headers)
    )
    await wait_until(lambda: any((node.data_dir / "store").iterdir()), 10, "unpacking begins")
    await node.kill9()
    await asyncio.gather(upload, return_exceptions=True)
    await node.start()
    left = [path.name for path in (node.data_dir / "store").iterdir()]
    assert left in ([], [archive.digest])
    async with node.http.put(f"/v1/bundles/{archive.digest}", data=io.BytesIO(archive.data), headers=headers) as answer:
        assert answer.status < 300
    await put(node, handler(tmp_path, "fine"))
    assert (await node.call("fine", json={})).status == 200


async def _killed_during_a_call(node: RunningNode, pid: int) -> dict[str, Any]:
    held = asyncio.create_task(node.call("pool", json={"sleep": 60}))
    await wait_until(lambda: _busy(node), 10, "the call runs")
    os.kill(pid, signal.SIGKILL)
    reply = await asyncio.wait_for(held, 5)
    document: dict[str, Any] = reply.json()
    return document


async def _busy(node: RunningNode) -> bool:
    return bool((await node.api("GET", "/v1/functions/pool"))["in_flight"] == 1)


async def _processes(instance: str) -> tuple[int, int]:
    """Ids on this machine of the supervisor and of its child."""

    def look() -> list[int]:
        client = docker.from_env(timeout=20)
        try:
            rows = client.api.top(f"faas-{instance}", ps_args="-eo pid,ppid")["Processes"]
        finally:
            client.close()
        tree = {int(pid): int(parent) for pid, parent in rows}
        supervisor = next(pid for pid, parent in tree.items() if parent not in tree)
        return [supervisor, *(pid for pid, parent in tree.items() if parent == supervisor)]

    def whole() -> list[int]:
        found = look()
        return found if len(found) == 2 else []

    supervisor, child = await wait_until(lambda: asyncio.to_thread(whole), 10, "a supervisor and its child")
    return supervisor, child


async def _one_other(node: RunningNode, first: set[str]) -> bool:
    there = await engine.containers(node.node_id)
    return len(there) == 1 and there[0].instance not in first


async def _has(node: RunningNode, count: int) -> bool:
    return len(await engine.instances(node.node_id)) == count
