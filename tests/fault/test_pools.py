"""Pools of real containers: where instances come from, how many there are, and what happens when they die."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fault import engine
from tests.fault.conftest import NodeMaker
from tests.integration.node import Reply, RunningNode
from tests.support import require, wait_until

pytestmark = pytest.mark.docker


@pytest.fixture
async def node(docker_node: RunningNode) -> RunningNode:
    """The session's node, with its stem cells there."""
    await wait_until(lambda: _has_stems(docker_node), 30, "two stem cells")
    return docker_node


async def test_a_cold_start_is_a_stem_cell_and_ends_in_nothing(node: RunningNode, pool_function: Path) -> None:
    await node.push(pool_function, "--name", "p-cold", "--idle", "1s", "--network", "egress")
    first = await node.call("p-cold", json={})
    assert first.headers["X-Faas-Start"] == "warm", "the push has left one ready"
    used = await _serving(node, "p-cold")
    await wait_until(lambda: _counts(node, "p-cold", 0), 10, "idle to zero")
    await wait_until(lambda: _gone(node, used), 10, "its container is gone")

    await wait_until(lambda: _has_stems(node), 30, "two stem cells")
    cells = await engine.instances(node.node_id)
    cold = await node.call("p-cold", json={})
    assert (cold.status, cold.headers["X-Faas-Start"]) == (200, "cold")
    assert _timing(cold, "start") > 0
    # Nothing new had to be created for it, and what held a function before is not used again.
    taken = await _serving(node, "p-cold")
    assert len(taken) == 1
    assert taken <= cells - used
    await _remove(node, "p-cold")


async def test_the_warmest_instance_is_used_again(node: RunningNode, pool_function: Path) -> None:
    await node.push(pool_function, "--name", "p-lifo")
    replies = await asyncio.gather(*(node.call("p-lifo", json={"sleep": 0.4}) for _ in range(3)))
    children = {_child(reply) for reply in replies}
    assert len(children) > 1, "they ran side by side"
    last = _child(await node.call("p-lifo", json={}))
    assert {_child(await node.call("p-lifo", json={})) for _ in range(6)} == {last}
    await _remove(node, "p-lifo")


async def test_min_is_kept_and_restored(node: RunningNode, pool_function: Path) -> None:
    await node.push(pool_function, "--name", "p-min", "--min", "2", "--idle", "0s")
    await wait_until(lambda: _counts(node, "p-min", 2), 20, "min is there without a call")
    victim, other = await _serving(node, "p-min", calls=2)
    await engine.kill(victim)
    await wait_until(lambda: _gone(node, {victim}), 10, "the killed one is removed")
    await wait_until(lambda: _counts(node, "p-min", 2), 20, "min is restored after docker kill")
    assert other in await _serving(node, "p-min", calls=2)
    assert (await node.call("p-min", json={})).status == 200
    # The reaper looks once a second, and both have been idle for longer than `idle`.
    assert (await node.cli("scale", "p-min", "--min", "1")).code == 0
    await wait_until(lambda: _counts(node, "p-min", 1), 10, "what is above min goes")
    await _remove(node, "p-min")


async def test_a_hundred_callers_at_zero_are_all_answered_within_max(node: RunningNode, pool_function: Path) -> None:
    await node.push(pool_function, "--name", "p-burst", "--max", "4", "--idle", "1s")
    await wait_until(lambda: _counts(node, "p-burst", 0), 10, "zero")
    peak = 0
    bursting = True

    async def watch() -> None:
        nonlocal peak
        while bursting:
            peak = max(peak, await _count(node, "p-burst"))

    watching = asyncio.create_task(watch())
    begun = time.monotonic()
    replies = await asyncio.gather(*(node.call("p-burst", json={"sleep": 0.01}) for _ in range(100)))
    took = time.monotonic() - begun
    bursting = False
    await watching
    assert {reply.status for reply in replies} == {200}
    assert 1 <= peak <= 4
    assert len({_child(reply) for reply in replies}) <= 4
    assert took < 15
    await _remove(node, "p-burst")


async def test_a_crash_costs_the_call_that_crashed_and_no_other(node: RunningNode, pool_function: Path) -> None:
    await node.push(pool_function, "--name", "p-crash", "--max", "1")
    child = _child(await node.call("p-crash", json={}))
    crashed, behind = await asyncio.gather(
        node.call("p-crash", json={"die": 9, "sleep": 0.2}), _soon(node.call("p-crash", json={}))
    )
    assert crashed.status == 502
    assert "exited with code 9" in crashed.json()["detail"]
    assert behind.status == 200
    assert _child(behind) != child
    # A container that dies as a whole: the call it had is told, and the next one gets another.
    held = asyncio.create_task(node.call("p-crash", json={"sleep": 30, "say": "held"}))
    await wait_until(lambda: _in_flight(node, "p-crash", 1), 10, "a call runs")
    (instance,) = await _last_instances(node, "p-crash", "held")
    await engine.kill(instance)
    killed = await held
    assert killed.status == 502
    assert "SIGKILL" in killed.json()["detail"]
    assert (await node.call("p-crash", json={})).status == 200
    assert instance not in await engine.instances(node.node_id)
    await _remove(node, "p-crash")


async def test_a_crash_loop_is_reported_and_not_spun(node: RunningNode, pool_function: Path) -> None:
    assert (await node.cli("secrets", "set", "MODE", stdin="live")).code == 0
    await node.push(pool_function, "--name", "p-loop", "--secret", "MODE", "--idle", "1s")
    await wait_until(lambda: _counts(node, "p-loop", 0), 10, "zero")
    assert (await node.cli("secrets", "set", "MODE", stdin="die")).code == 0

    begun = time.time()
    failed = await node.call("p-loop", json={})
    assert failed.status in (500, 502)
    assert "code 7" in failed.json()["detail"]
    deadline = time.monotonic() + 4
    refused = 0
    while time.monotonic() < deadline:
        reply = await node.call("p-loop", json={})
        assert reply.status in (500, 502)
        refused += 1
    shown = await node.cli("show", "p-loop")
    assert "crash_loop" in shown.out
    assert "code 7" in shown.out
    reply = await node.call("p-loop", json={})
    assert reply.json()["code"] == "crash_loop"
    assert int(reply.headers["Retry-After"]) >= 1
    # 0, 0, 0.5, 1, 2 seconds between starts; each takes one container, and a stem cell replaces it.
    starts = await engine.created(node.node_id, begun, time.time())
    assert starts <= 10, f"{starts} containers for {refused} calls"
    assert refused > 20, "callers are answered at once while the next start waits"

    assert (await node.cli("secrets", "set", "MODE", stdin="live")).code == 0
    await wait_until(lambda: _answers(node, "p-loop"), 30, "it recovers by itself")
    await _remove(node, "p-loop")


async def test_memory_goes_to_who_needs_it_and_never_beyond(make_node: NodeMaker, pool_function: Path) -> None:
    require("docker", "images")
    node = await make_node("--driver", "docker", "--memory", "768M", "--stem-cells", "1", "--drain", "1s")
    for name in ("first", "second", "third"):
        # A cell that is being started holds memory and cannot give way yet: that is not what this test is about.
        await wait_until(lambda: _stems(node, 1), 30, "the stem cell is there")
        await node.push(pool_function, "--name", name)
        assert (await node.call(name, json={})).status == 200
    assert [await _count(node, name) for name in ("first", "second", "third")] == [1, 1, 1]
    assert (await node.call("first", json={})).headers["X-Faas-Start"] == "warm"

    # No room: the stem cell is long gone, so the coldest idle instance of another function makes it: "second".
    await node.push(pool_function, "--name", "fourth")
    assert [await _count(node, name) for name in ("first", "second", "third", "fourth")] == [1, 0, 1, 1]
    used = (await node.api("GET", "/v1/status"))["node"]
    assert used["memory_used"] <= used["memory"] == 768 * 1024**2

    # Nothing can be evicted: all are busy. The caller is told so, with what to do, after a bounded wait.
    busy = [asyncio.create_task(node.call(name, json={"sleep": 9})) for name in ("first", "third", "fourth")]
    for name in ("first", "third", "fourth"):
        await wait_until(partial(_in_flight, node, name, 1), 10, f"{name} is busy")
    begun = time.monotonic()
    refused = await node.call("second", json={})
    assert refused.status == 503
    assert time.monotonic() - begun < 8
    problem = refused.json()
    assert problem["code"] == "no_room"
    assert "no memory left on this node" in problem["detail"]
    assert "faas up --memory" in problem["hint"]
    assert refused.headers["Retry-After"]

    # Who waits when room appears gets it.
    waiting = await node.call("second", json={})
    assert waiting.status == 200
    assert {reply.status for reply in await asyncio.gather(*busy)} == {200}

    # Half the machine for one function: stem cells and two idle instances give way together.
    await node.push(pool_function, "--name", "large", "--memory", "600M")
    assert (await node.call("large", json={})).status == 200
    assert len(await engine.containers(node.node_id, running_only=True)) == 1
    too_large = await node.cli("push", str(pool_function), "--name", "larger", "--memory", "2G")
    assert too_large.code == 3
    assert "no memory left on this node for larger@1: it needs 2048 MiB" in too_large.err + too_large.out


# -- what tests ask ----------------------------------------------------------------------------------------------


def _child(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    return str(reply.json()["child"])


def _timing(reply: Reply, part: str) -> float:
    parts = dict(piece.strip().split(";dur=") for piece in reply.headers["Server-Timing"].split(","))
    return float(parts[part])


async def _soon(call: Any) -> Reply:
    await asyncio.sleep(0.05)
    reply: Reply = await call
    return reply


async def _view(node: RunningNode, name: str) -> Any:
    return await node.api("GET", f"/v1/functions/{name}")


async def _count(node: RunningNode, name: str) -> int:
    """Instances of the function, those being started included."""
    return int((await _view(node, name))["instances"])


async def _counts(node: RunningNode, name: str, wanted: int) -> bool:
    view = await _view(node, name)
    states = [state for pool in view["pools"] for state, count in pool["states"].items() for _ in range(count)]
    return len(states) == wanted and set(states) <= {"idle"}


async def _in_flight(node: RunningNode, name: str, wanted: int) -> bool:
    return bool((await _view(node, name))["in_flight"] == wanted)


async def _serving(node: RunningNode, name: str, calls: int = 1) -> set[str]:
    """Instances that answer so many calls at once: each prints a line, and a line tells where it is from."""
    word = secrets.token_hex(8)
    replies = await asyncio.gather(
        *(node.call(name, json={"say": word, "sleep": 0.3 * (calls > 1)}) for _ in range(calls))
    )
    assert {reply.status for reply in replies} == {200}
    return await _last_instances(node, name, word)


async def _last_instances(node: RunningNode, name: str, word: str) -> set[str]:
    """Where the lines `word` are from."""
    found: set[str] = set()

    async def there() -> bool:
        result = await node.cli("logs", name, "--json")
        lines = [json.loads(line) for line in result.out.splitlines()]
        found.update(line["instance"] for line in lines if line["text"] == word)
        return bool(found)

    await wait_until(there, 10, f"{name} has printed {word}")
    return found


async def _gone(node: RunningNode, ids: set[str]) -> bool:
    return not ids & {one.instance for one in await engine.containers(node.node_id)}


async def _stems(node: RunningNode, count: int) -> bool:
    return bool((await node.api("GET", "/v1/status"))["instances"].get("stem", 0) == count)


async def _has_stems(node: RunningNode) -> bool:
    """Two of every kind in use: tests before this one may have asked for another network."""
    stems = (await node.api("GET", "/v1/status"))["instances"].get("stem", 0)
    return bool(stems >= 2 and stems % 2 == 0)


async def _answers(node: RunningNode, name: str) -> bool:
    return (await node.call(name, json={})).status == 200


async def _remove(node: RunningNode, name: str) -> None:
    assert (await node.cli("rm", name, "--yes")).code == 0
