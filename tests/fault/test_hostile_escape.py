"""Handlers that look around: a read-only root, small scratch space, no privileges, nothing of anybody else."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from yarl import URL

from tests.fault.hostile import APP, FIXTURES, push, timed, unharmed
from tests.integration.conftest import put
from tests.integration.node import RunningNode
from tests.support import require

pytestmark = pytest.mark.docker
MIB = 1024 * 1024
WORD = "plover-egg-7261"
"""Stands in the neighbour's code and in nobody else's."""


@pytest.fixture(scope="module")
async def node(docker_node: RunningNode) -> RunningNode:
    require("docker", "images")
    await push(docker_node, "writes", memory="128M")
    await push(docker_node, "reaches")
    await put(docker_node, FIXTURES / "reaches.py", name="offline", app=APP, memory="64M", network="none")
    return docker_node


async def ask(node: RunningNode, name: str, event: dict[str, Any]) -> Any:
    reply, took = await timed(node, name, event)
    assert reply.status == 200, reply
    assert took < 20
    return reply.json()


async def test_nothing_but_the_scratch_space_can_be_written(node: RunningNode) -> None:
    async with unharmed(node, "writes"):
        assert await ask(node, "writes", {"how": "everywhere"}) == []


async def test_no_privilege_is_to_be_had(node: RunningNode) -> None:
    async with unharmed(node, "writes"):
        assert await ask(node, "writes", {"how": "privileges"}) == []


@pytest.mark.parametrize(("how", "most"), [("tmp", 64 * MIB), ("shm", 16 * MIB)])
async def test_scratch_space_ends_and_says_so(node: RunningNode, how: str, most: int) -> None:
    async with unharmed(node, "writes"):
        size, error = await ask(node, "writes", {"how": how})
        assert most - 2 * MIB < size <= most
        assert error == "ENOSPC"


async def test_a_flood_of_files_ends_and_goes_with_the_process(node: RunningNode) -> None:
    async with unharmed(node, "writes"):
        reply, took = await timed(node, "writes", {"how": "many files"})
        assert reply.status in (200, 502, 504), reply
        assert took < 20


async def test_only_its_own_processes_and_sockets_are_there(node: RunningNode) -> None:
    async with unharmed(node, "reaches"):
        assert len(await ask(node, "reaches", {"how": "processes"})) <= 3
        found = await ask(node, "reaches", {"how": "sockets"})
        assert found == [], "no engine, no Redis, no neighbour; its own is in a folder that cannot be listed"


async def test_another_functions_code_is_not_there(node: RunningNode) -> None:
    async with unharmed(node, "reaches"):
        assert await ask(node, "reaches", {"word": WORD[::-1]}) == []


async def test_the_machine_its_services_and_metadata_are_out_of_reach(node: RunningNode) -> None:
    """The node's own port, the engine's, Redis', a listener on every address: by each way a container may know."""
    address = await ask(node, "reaches", {"how": "address"})
    port = URL(node.url).port
    listener = await asyncio.start_server(lambda _reader, writer: writer.close(), "0.0.0.0", 0)
    try:
        ports = [port, 2375, 6379, listener.sockets[0].getsockname()[1]]
        hosts = [address["gateway"], *_own_addresses()]
        wanted = [[host, one] for host in hosts if host for one in ports]
        wanted += [["169.254.169.254", 80], ["169.254.170.2", 80]]
        async with unharmed(node, "reaches"):
            for name in ("reaches", "offline"):
                told = await ask(node, name, {"connect": wanted})
                assert [what for what, how in told.items() if not how.startswith("refused")] == []
    finally:
        listener.close()
        await listener.wait_closed()


async def test_a_neighbours_container_is_out_of_reach(node: RunningNode) -> None:
    await put(node, FIXTURES / "reaches.py", name="listens", app=APP, memory="64M")
    async with unharmed(node, "listens"):
        address = await ask(node, "listens", {"how": "address"})
        waits = asyncio.create_task(timed(node, "listens", {"how": "listen", "seconds": 2}))
        await asyncio.sleep(0.2)
        told = await ask(node, "reaches", {"connect": [[address["own"], 8099]]})
        assert all(how.startswith("refused") for how in told.values()), told
        reply, _ = await waits
        assert reply.body == b"no visitor"


def _own_addresses() -> list[str]:
    """What this machine answers to."""
    with os.popen("hostname -I") as out:
        return [one for one in out.read().split() if ":" not in one][:3]
