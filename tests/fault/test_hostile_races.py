"""Pushes, removals and calls of one function at the same moment: documented answers only, and an end that fits."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from faas.archive import pack
from faas.cli.source import Wishes, collect
from faas.errors import FaasError
from faas.model import FunctionPush, Push, PushEvent
from faas.sdk.client import Client
from tests.fault import engine
from tests.fault.hostile import APP, DEFECT, assert_serves, push
from tests.integration.node import RunningNode
from tests.support import require, wait_until

pytestmark = pytest.mark.docker
TIMES = 8
LOOP_S = 30.0


@pytest.fixture(scope="module")
async def node(docker_node: RunningNode) -> RunningNode:
    require("docker", "images")
    await push(docker_node)
    return docker_node


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Two versions of one function, each of which says its name."""
    found = {}
    for word in ("red", "blue"):
        (tmp_path / word).mkdir()
        found[word] = tmp_path / word / "raced.py"
        found[word].write_text(f"def handler(event):\n    return {word!r}\n")
    return found


async def put(client: Client, path: Path, **settings: Any) -> PushEvent:
    """How a push ends. Raises FaasError when it is refused."""
    [found] = collect(path, Wishes("", APP, {"memory": "64M"} | settings), {})
    archive = pack(found.files)
    await client.put_bundle(archive.digest, archive.data)
    item = FunctionPush(name=found.name, code=archive.digest, settings=found.settings)
    return [event async for event in client.push(APP, Push(functions=[item]))][-1]


async def test_two_pushes_at_once_both_get_an_answer_and_one_is_live(
    node: RunningNode, sources: dict[str, Path]
) -> None:
    seen = len(node.log())
    async with Client(node.url, node.token) as one, Client(node.url, node.token) as other:
        for _ in range(5):
            ends = await asyncio.gather(put(one, sources["red"]), put(other, sources["blue"]), return_exceptions=True)
            for end in ends:
                assert isinstance(end, PushEvent), end
                if end.phase == "failed":
                    assert end.error is not None
                    assert end.error["code"] == "conflict", end
            assert any(end.phase == "done" for end in ends if isinstance(end, PushEvent))
            words = {(await node.call(f"raced.{APP}", json={})).body for _ in range(5)}
            assert len(words) == 1, "one of them is live, not both"
        history = await one.versions(f"raced.{APP}")
        numbers = [version["number"] for version in history]
        assert len(numbers) == len(set(numbers)), "no version number is given twice"
        await one.remove(f"raced.{APP}")
    assert DEFECT not in node.log()[seen:]


async def test_push_rm_and_calls_at_once(node: RunningNode, sources: dict[str, Path]) -> None:
    statuses, codes = Counter[int](), Counter[str]()
    begun = time.monotonic()

    def over() -> bool:
        """Everything has happened a few times, or nothing more is to be expected."""
        enough = min(codes["done"], codes["removed"], statuses[200], statuses[404]) >= TIMES
        return enough or time.monotonic() - begun > LOOP_S

    seen = len(node.log())

    async def pushes() -> None:
        async with Client(node.url, node.token) as client:
            for word in itertools.cycle(sources):
                if over():
                    return
                try:
                    event = await put(client, sources[word])
                except FaasError as error:
                    codes[error.code] += 1
                    continue
                codes[f"{event.error['code']}: {event.error['detail']}" if event.error else event.phase] += 1

    async def removals() -> None:
        async with Client(node.url, node.token) as client:
            while not over():
                # Now in the middle of a push, now when the function has been called for a moment.
                seen_done = codes["done"]
                while codes["done"] == seen_done and not over():
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05 * (codes["removed"] % 5))
                try:
                    await client.remove(f"raced.{APP}")
                    codes["removed"] += 1
                except FaasError as error:
                    codes[error.code] += 1

    async def calls() -> None:
        while not over():
            async with node.http.post(f"/function/raced.{APP}", json={}, timeout=aiohttp.ClientTimeout(10)) as answer:
                statuses[answer.status] += 1
                body = await answer.read()
                assert answer.status != 200 or body in (b"red", b"blue")
                if answer.status >= 500:
                    codes[body.decode()[:300]] += 1
            await asyncio.sleep(0.01)

    await asyncio.gather(pushes(), removals(), *(calls() for _ in range(4)))
    assert set(statuses) <= {200, 404}, (statuses, codes)
    assert min(statuses[200], statuses[404]) > 0
    told = {code.partition(":")[0] for code in codes}
    assert told <= {"done", "unchanged", "removed", "not_found", "conflict"}, codes
    assert codes["done"] > 0
    assert codes["removed"] > 0

    async with Client(node.url, node.token) as client:
        assert (await put(client, sources["blue"])).phase == "done"
        assert (await node.call(f"raced.{APP}", json={})).body == b"blue"
        before = await engine.instances(node.node_id)
        await client.remove(f"raced.{APP}")
    assert (await node.call(f"raced.{APP}", json={})).status == 404
    await wait_until(lambda: _pools_gone(node), 10, "instances of what was removed are gone")
    assert before
    await assert_serves(node, "neighbour")
    assert DEFECT not in node.log()[seen:], node.log()[seen:][-3_000:]


async def _pools_gone(node: RunningNode) -> bool:
    """The engine runs what the node counts, and nothing else."""
    counted: int = sum((await node.api("GET", "/v1/status"))["instances"].values())
    return len(await engine.instances(node.node_id)) == counted
