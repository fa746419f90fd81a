"""kill -9 of a node, of its Redis, and in the middle of a push: what goes on, what is cleaned, what is kept."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import aiohttp
import msgspec
import pytest

from faas.archive import File, pack
from tests.fault import engine
from tests.fault.conftest import NodeMaker
from tests.integration.node import RunningNode
from tests.leftovers import Leftovers, assert_nothing_left, look
from tests.support import require, wait_until


@pytest.fixture(params=["process", "docker"])
def driver(request: pytest.FixtureRequest) -> str:
    require("docker", "images") if request.param == "docker" else require("bwrap")
    return str(request.param)


async def test_a_killed_node_leaves_nothing_that_the_next_start_does_not_clean(
    make_node: NodeMaker, driver: str, pool_function: Path
) -> None:
    node = await make_node("--driver", driver, "--drain", "1s")
    before = look(node.data_dir)
    await node.push(pool_function)
    await asyncio.gather(*(node.call("pool", json={"sleep": 0.3}) for _ in range(3)))
    in_flight = asyncio.create_task(node.call("pool", json={"sleep": 60, "say": "begun"}))
    await wait_until(lambda: _three_and_one_busy(node), 20, "three instances, one of them busy")
    if driver == "docker":
        assert len(await engine.instances(node.node_id)) >= 3
    redis = _redis_pid(node)

    await node.kill9()
    with pytest.raises(aiohttp.ClientError):
        await in_flight
    # Supervisors see their connection close and exit; the embedded server dies with its parent.
    await assert_nothing_left(
        node.data_dir,
        labels={"faas.node": node.node_id},
        kinds=("containers", "processes"),
        running_only=True,
        timeout=5,
    )
    assert not _alive(redis)

    await node.start()
    after = look(node.data_dir, labels={"faas.node": node.node_id}) - before
    assert not [one for one in after.containers if " exited " in one or " dead " in one], "swept at the start"
    assert not {one for one in after.mounts if "/instances/" in one}
    assert "removing an instance left by a killed node" in node.log() or driver == "process"
    reply = await node.call("pool", json={})
    assert (reply.status, reply.headers["X-Faas-Start"]) == (200, "cold")
    await node.stop()
    await assert_nothing_left(node.data_dir, Leftovers(), labels={"faas.node": node.node_id}, timeout=2)


async def test_the_death_of_the_embedded_redis_costs_no_call_and_no_function(
    make_node: NodeMaker, pool_function: Path
) -> None:
    node = await make_node("--driver", "process")
    await node.push(pool_function)
    answers: list[int] = []
    serving = True

    async def caller() -> None:
        while serving:
            answers.append((await node.call("pool", json={})).status)

    calling = asyncio.create_task(caller())
    await wait_until(lambda: len(answers) > 20, 10, "calls are answered")
    old = _redis_pid(node)
    os.kill(old, signal.SIGKILL)
    count = len(answers)
    await wait_until(lambda: len(answers) > count + 50, 10, "calls go on without Redis")
    await wait_until(lambda: _redis_pid(node) != old, 10, "a new server is started")
    await wait_until(lambda: _redis_answers(node), 10, "it answers")
    await node.push(pool_function, "--name", "later")
    assert (await node.call("later", json={})).status == 200
    serving = False
    await calling
    assert set(answers) == {200}
    assert "embedded Redis ended; starting it again" in node.log()

    # What was acknowledged before and after is there for the next start too, with nobody closing anything.
    os.kill(_redis_pid(node), signal.SIGKILL)
    await node.kill9()
    await node.start()
    for name in ("pool", "later"):
        assert (await node.call(name, json={})).status == 200


async def test_a_push_cut_off_by_kill_9_has_happened_wholly_or_not_at_all(make_node: NodeMaker) -> None:
    node = await make_node("--driver", "process")
    words = {"first"}
    assert (await _push(node, ["a", "b"], "first"))[-1]["phase"] == "done"
    for phase in ("stored", "starting", "ready", "live", "done"):
        await _push(node, ["a", "b"], phase, kill_at=phase)
        await node.start()
        answers = {(await node.call(name, json={})).body.decode() for name in ("a", "b")}
        assert len(answers) == 1, f"killed at {phase}: both functions of the push or none, not {answers}"
        # What was told is kept; what was not told may have happened.
        words = {phase} if phase in ("live", "done") else words | {phase}
        assert answers <= words, phase
        words = answers
    assert (await node.api("GET", "/v1/status"))["functions"] == 2
    assert (await _push(node, ["a", "b"], "last"))[-1]["phase"] == "done"
    assert {(await node.call(name, json={})).body for name in ("a", "b")} == {b"last"}


async def _push(node: RunningNode, names: list[str], word: str, kill_at: str = "") -> list[dict[str, object]]:
    """Push functions that answer `word`, over the API; kill the node when a phase is reported."""
    # The import takes a moment, so that "starting" has a middle.
    code = f"import time\ntime.sleep(0.1)\ndef handler(event): return {word!r}\n"
    archive = pack({"main.py": File(code.encode())})
    headers = {"Authorization": f"Bearer {node.token}"}
    async with node.http.put(f"/v1/bundles/{archive.digest}", data=archive.data, headers=headers) as answer:
        assert answer.status < 300, await answer.text()
    push = {"functions": [{"name": name, "code": archive.digest, "settings": {}} for name in names]}
    events = []
    async with node.http.post("/v1/apps/default/push", json=push, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            events.append(json.loads(line))
            if events[-1]["phase"] == kill_at:
                await node.kill9()
                break
    assert not kill_at or not node.running, f"no phase {kill_at}: {events}"
    return events


async def _three_and_one_busy(node: RunningNode) -> bool:
    states = (await node.api("GET", "/v1/functions/pool"))["pools"][0]["states"]
    return bool(states.get("busy") == 1 and states.get("idle", 0) >= 2)


def _redis_pid(node: RunningNode) -> int:
    state = msgspec.json.decode((node.data_dir / "redis" / "server.json").read_bytes())
    return int(state["pid"])


async def _redis_answers(node: RunningNode) -> bool:
    return bool((await node.api("GET", "/v1/status"))["redis"]["ok"])


def _alive(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True
