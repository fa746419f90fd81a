"""Quotas of apps on a real node: instances, queue, calls a second."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

from tests.conftest import NodeFactory
from tests.support import wait_until


async def test_quotas(node_factory: NodeFactory, tmp_path: Path) -> None:
    node = await node_factory("--driver", "process")
    path = tmp_path / "work.py"
    path.write_text("import time\ndef handler(event):\n    time.sleep(event.get('s', 0))\n    return 'ok'\n")
    await node.push(path, "--app", "shop")
    await node.push(path, "--name", "other", "--app", "shop", "--idle", "1s")
    flags = ("--instances", "2", "--queue", "5", "--rps", "200")
    assert (await node.cli("apps", "quota", "shop", *flags)).code == 0
    shown = json.loads((await node.cli("apps", "quota", "shop", "--json")).out)
    assert shown == {"app": "shop", "instances": 2, "memory": None, "queue": 5, "rps": 200.0}

    # Instances: both functions together stay within two, and everybody is answered.
    calls = [node.call(name, json={"s": 0.1}) for name in ("work.shop", "other.shop") for _ in range(5)]
    assert {reply.status for reply in await asyncio.gather(*calls)} == {200}
    assert (await node.api("GET", "/v1/apps/shop"))["app"]["instances"] <= 2

    # The queue: exactly five unfinished background calls, over all functions of the app, in one burst or several.
    assert (await node.cli("apps", "quota", "shop", "--rps", "10000")).code == 0
    assert (await node.cli("pause", "work.shop")).code == 0
    assert (await node.cli("pause", "other.shop")).code == 0
    burst = [
        node.http.post(f"/async-function/{name}", json={}) for name in ("work.shop", "other.shop") for _ in range(9)
    ]
    answers = await asyncio.gather(*burst)
    assert Counter(answer.status for answer in answers) == {202: 5, 429: 13}
    refused = await next(answer for answer in answers if answer.status == 429).json()
    assert "app shop has 5 unfinished background calls; its quota is 5" in refused["detail"]
    for answer in answers:
        answer.release()
    for name in ("work.shop", "other.shop"):
        assert (await node.cli("resume", name)).code == 0

    async def room() -> bool:
        async with node.http.post("/async-function/work.shop", json={}) as answer:
            return answer.status == 202

    await wait_until(room, 20, "the queue has drained and takes more")

    # Calls a second: what is beyond is told when to come back.
    assert (await node.cli("apps", "quota", "shop", "--rps", "5")).code == 0
    replies = await asyncio.gather(*(node.call("work.shop", json={}) for _ in range(40)))
    counts = Counter(reply.status for reply in replies)
    assert set(counts) == {200, 429}
    assert 5 <= counts[200] <= 20, "about five a second"
    limited = next(reply for reply in replies if reply.status == 429)
    assert int(limited.headers["Retry-After"]) >= 1
    assert "quota of 5 calls a second" in limited.json()["detail"]
    assert (await node.cli("apps", "quota", "shop", "--reset")).code == 0
    replies = await asyncio.gather(*(node.call("work.shop", json={}) for _ in range(20)))
    assert {reply.status for reply in replies} == {200}
