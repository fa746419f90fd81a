"""Aliases while calls use them: what is under way ends well, what comes later is told why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from faas.archive import pack
from faas.cli.source import Wishes, collect
from faas.model import FunctionPush, Push
from faas.sdk.client import Client
from tests.integration.node import RunningNode
from tests.support import wait_until

SLOW = """
import asyncio


async def handler(event, context):
    await asyncio.sleep(event["seconds"])
    return {"version": context.version}
"""


@pytest.fixture(scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    async with RunningNode(tmp_path_factory.mktemp("aliases"), "--driver", "process") as node:
        yield node


async def push(node: RunningNode, folder: Path, alias: str, code: str = SLOW) -> None:
    """The function `slow`, with this alias."""
    (folder / "slow.py").write_text(code)
    async with Client(node.url, node.token) as client:
        (found,) = collect(folder / "slow.py", Wishes("slow", "", {"retries": 0}), {})
        archive = pack(found.files)
        await client.put_bundle(archive.digest, archive.data)
        item = FunctionPush(name="slow", code=archive.digest, settings=found.settings)
        told = [event async for event in client.push("default", Push(functions=[item], alias=alias))]
        assert told[-1].phase == "done", told[-1]


async def refused(node: RunningNode, method: str, path: str, **options: object) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {node.token}"}
    async with node.http.request(method, path, headers=headers, **options) as answer:  # type: ignore[arg-type]
        return answer.status, (await answer.json())["detail"]


async def test_an_alias_in_use_is_removed(node: RunningNode, tmp_path: Path) -> None:
    await push(node, tmp_path, "live")
    await push(node, tmp_path, "canary", SLOW + "\n# two\n")
    running = asyncio.create_task(node.call("slow@canary", json={"seconds": 3}))

    async def runs() -> bool:
        function = await node.api("GET", "/v1/functions/slow")
        return bool(function["in_flight"])

    await wait_until(runs, 20, "the call runs")
    event = {"seconds": 0}
    delayed = {"X-Faas-Delay": "500ms"}
    async with node.http.post("/async-function/slow@canary", json=event, headers=delayed) as answer:
        assert answer.status == 202
        later = (await answer.json())["id"]
    await node.api("DELETE", "/v1/functions/slow/aliases/canary")
    gone = await node.call("slow@canary", json=event)
    assert gone.status == 404
    assert gone.json()["detail"] == 'slow has no alias "canary"; it has: live'
    assert not running.done()
    assert (await running).json() == {"version": 2}, "what was under way ends as if nothing had happened"
    info = await node.api("GET", f"/v1/invocations/{later}?wait=20")
    assert info["invocation"]["state"] == "dead", info
    async with node.http.get(
        f"/v1/invocations/{later}/result", headers={"Authorization": f"Bearer {node.token}"}
    ) as answer:
        assert 'slow has no alias "canary"' in (await answer.json())["detail"], "another version does not run it"
    assert (await node.call("slow", json=event)).json() == {"version": 1}


async def test_live_cannot_be_removed_and_weights_must_add_up(node: RunningNode, tmp_path: Path) -> None:
    await push(node, tmp_path, "live")
    path = "/v1/functions/slow/aliases/live"
    assert await refused(node, "DELETE", path) == (409, "the alias live cannot be removed: plain calls use it")
    for weights, said in (
        ({"1": 90}, "the weights sum to 90; they must sum to 100"),
        ({"1": 60, "2": 60}, "the weights sum to 120; they must sum to 100"),
        ({"1": 101}, "weight 101 for version 1: weights are percent, from 1 to 100"),
        ({"1": 100, "2": 0}, "weight 0 for version 2: weights are percent, from 1 to 100"),
    ):
        assert await refused(node, "PUT", path, json={"weights": weights}) == (422, said)
    status, said = await refused(node, "PUT", path, json={"weights": {"1": 50, "99": 50}})
    assert (status, said.split(";")[0]) == (404, "slow has no version 99")
    function = await node.api("GET", "/v1/functions/slow")
    assert function["aliases"]["live"] == {"1": 100}, "nothing has moved"
