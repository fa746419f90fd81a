"""Two nodes that share nothing but Redis: each with its own data directory, as on two machines."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.conftest import NodeMaker
from tests.integration.node import RunningNode
from tests.support import ROOT, wait_until

SECRET = ROOT / "tests" / "fixtures" / "handlers" / "secret.py"
DEAD_S = 20.0
"""A node is off the list 15 s after its last heartbeat."""


def _word(folder: Path, name: str, word: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(f"def handler(event): return {word!r}\n")
    return path


async def test_a_cluster_of_two(make_node: NodeMaker, fresh_redis: Callable[[], str], tmp_path: Path) -> None:
    url, key = fresh_redis(), secrets.token_hex(32)
    env = {"FAAS_REDIS_URL": url, "FAAS_SECRET_KEY": key}
    first = await make_node("--driver", "process", "--node-name", "first", env=env)
    second = await make_node("--driver", "process", "--node-name", "second", env=env)

    # Pushed through one, it answers through the other within a second, and so does the next version.
    for word in ("one", "two"):
        await first.push(_word(tmp_path, "shared", word))
        await _answers_within_a_second(second, "shared", word)
    listed = [await node.cli("ls", "--json") for node in (first, second)]
    names = [[json.loads(line)["name"] for line in result.out.splitlines()] for result in listed]
    assert names == [["shared"], ["shared"]]
    lives = [[json.loads(line)["live"] for line in result.out.splitlines()] for result in listed]
    assert lives == [[2], [2]]

    # A secret set on one opens on the other: they share the key.
    assert (await first.cli("secrets", "set", "PASSWORD", stdin="hunter2")).code == 0
    await wait_until(lambda: _lists_secret(second), 2, "the secret is listed on the other node")
    await second.push(_secret_reader(tmp_path), "--secret", "PASSWORD")
    await _answers_within_a_second(first, "reader", "hunter2")

    # Removed on one, it is gone on the other.
    await second.push(_word(tmp_path, "gone", "x"))
    await _answers_within_a_second(first, "gone", "x")
    assert (await first.cli("rm", "gone", "--yes")).code == 0
    await _status_within_a_second(second, "gone", 404)

    # The pushing node is killed and its directory deleted before the other has ever called the function.
    await first.push(_word(tmp_path, "orphan", "still here"))
    assert await _node_names(second) == ["first", "second"]
    await first.kill9()
    died = time.monotonic()
    shutil.rmtree(first.data_dir)
    await _answers_within_a_second(second, "orphan", "still here")
    result = await second.cli("ls", "--json")
    assert sorted(json.loads(line)["name"] for line in result.out.splitlines()) == ["orphan", "reader", "shared"]
    await second.push(_word(tmp_path, "after", "pushed"))
    await _answers_within_a_second(second, "after", "pushed")

    async def dropped() -> bool:
        return await _node_names(second) == ["second"]

    await wait_until(dropped, DEAD_S - (time.monotonic() - died), "the dead node is off the list")


async def test_other_keys_are_a_clear_error_and_no_leak(
    make_node: NodeMaker, fresh_redis: Callable[[], str], tmp_path: Path
) -> None:
    url = fresh_redis()
    first = await make_node("--driver", "process", env={"FAAS_REDIS_URL": url})
    second = await make_node("--driver", "process", env={"FAAS_REDIS_URL": url})
    assert (await first.cli("secrets", "set", "PASSWORD", stdin="hunter2")).code == 0
    await first.push(_secret_reader(tmp_path), "--secret", "PASSWORD")
    assert (await first.call("reader", json={})).body == b"hunter2"

    async def knows() -> bool:
        return (await second.call("reader", json={})).status != 404

    await wait_until(knows, 2, "the other node knows the function")
    refused = await asyncio.wait_for(second.call("reader", json={}), 10)
    assert refused.status == 503
    problem = refused.json()
    assert problem["fault"] == "platform"
    assert "PASSWORD" in problem["detail"]
    assert "key" in problem["detail"]
    assert "FAAS_SECRET_KEY" in problem["hint"] or "--secret-key-file" in problem["hint"]
    assert b"hunter2" not in refused.body
    assert "hunter2" not in second.log()
    assert (await first.call("reader", json={})).status == 200, "the other node is not disturbed"


@pytest.mark.slow
async def test_the_cluster_outlives_its_redis_for_what_is_known(
    make_node: NodeMaker, fresh_redis: Callable[[], str], tmp_path: Path
) -> None:
    """Both restart at once, as after a power cut: each serves what both had."""
    env = {"FAAS_REDIS_URL": fresh_redis()}
    nodes = [await make_node("--driver", "process", env=env) for _ in range(2)]
    await asyncio.gather(*(node.push(_word(tmp_path, f"from{at}", str(at))) for at, node in enumerate(nodes)))
    for node in nodes:
        await node.kill9()
    await asyncio.gather(*(node.start() for node in nodes))
    for node in nodes:
        for at in range(2):
            assert (await node.call(f"from{at}", json={})).body == str(at).encode()


def _secret_reader(folder: Path) -> Path:
    path = folder / "reader.py"
    path.write_text("import os\ndef handler(event): return os.environ['PASSWORD']\n")
    return path


async def _answers_within_a_second(node: RunningNode, name: str, word: str) -> None:
    """The news takes less than a second; the cold start after it is not counted."""
    deadline = time.monotonic() + 1.0
    while True:
        asked = time.monotonic()
        reply = await node.call(name, json={})
        if reply.status == 200 and reply.body == word.encode():
            return
        assert asked < deadline, f"{name} answers {reply.status} {reply.body[:200]!r}, not {word!r}, after a second"
        await asyncio.sleep(0.01)


async def _status_within_a_second(node: RunningNode, name: str, status: int) -> None:
    async def there() -> bool:
        return (await node.call(name, json={})).status == status

    await wait_until(there, 1.0, f"{name} answers {status}")


async def _lists_secret(node: RunningNode) -> bool:
    return "PASSWORD" in (await node.cli("secrets", "ls")).out


async def _node_names(node: RunningNode) -> list[str]:
    result = await node.cli("nodes", "ls", "--json")
    assert result.code == 0, result
    return sorted(json.loads(line)["name"] for line in result.out.splitlines())
