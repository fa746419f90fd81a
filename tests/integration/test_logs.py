"""Logs: every way of writing carries the call's id, and the log outlives what wrote it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import docker
import pytest

from tests.integration.conftest import HANDLERS, log_lines, put
from tests.integration.node import RunningNode
from tests.support import ROOT, dies_with_us, wait_until

MIB = 1024 * 1024


@pytest.fixture(scope="module")
async def node(corpus: RunningNode) -> RunningNode:
    await put(corpus, HANDLERS / "prints.py", app="logs", name="prints")
    return corpus


async def test_every_way_of_writing_carries_the_call(node: RunningNode) -> None:
    first = await node.call("prints.logs", json={})
    second = await node.call("prints.logs", json={})
    call = first.headers["X-Call-Id"]
    lines = await log_lines(node, "prints.logs", call=call)
    texts = [line.text for line in lines]
    expected = {
        "one": "stdout",
        "two": "stdout",
        "no endfrom a thread": "stdout",  # one stream: what follows a line without an end continues it
        "buffered": "stdout",
        "from C": "stdout",
        "from a program": "stdout",
        "to stderr": "stderr",
        "raw no end": "stderr",
        "careful": "warning",
        "told": "info",
    }
    for text, level in expected.items():
        found = [line for line in lines if line.text == text]
        assert len(found) == 1, f"{text!r} once in {texts}"
        assert found[0].level == level, found[0]
    (careful,) = (line for line in lines if line.text == "careful")
    assert careful.fields["item"] == 7
    (wrong,) = (line for line in lines if line.text.startswith("went wrong"))
    assert wrong.level == "error"
    assert "ZeroDivisionError" in json.dumps(wrong.fields) + wrong.text
    assert {(line.call, line.version) for line in lines} == {(call, 1)}
    everything = await log_lines(node, "prints.logs")
    assert {line.call for line in everything} == {call, second.headers["X-Call-Id"], ""}
    assert [line.text for line in everything if not line.call] == ["at import"], "written before any call"


async def test_the_command_prints_and_filters(node: RunningNode) -> None:
    reply = await node.call("prints.logs", json={})
    call = reply.headers["X-Call-Id"]
    shown = await node.cli("logs", "prints.logs", "--call", call)
    assert shown.code == 0, shown
    assert any(line.endswith("stdout  from C") for line in shown.out.splitlines()), shown.out
    worse = await node.cli("logs", "prints.logs", "--call", call, "--level", "warning", "--json")
    levels = {json.loads(line)["level"] for line in worse.out.splitlines()}
    assert levels == {"warning", "error", "stderr"}
    none = await node.cli("logs", "prints.logs", "--call", "c-of-nobody")
    assert (none.code, none.out) == (0, "")
    unknown = await node.cli("logs", "no-such-function")
    assert (unknown.code, "no function" in unknown.err) == (2, True)


@asynccontextmanager
async def following(node: RunningNode, *words: str) -> AsyncIterator[asyncio.StreamReader]:
    """Standard output of a `faas logs -f` that runs beside the body."""
    process = await asyncio.create_subprocess_exec(
        *dies_with_us([sys.executable, "-m", "faas.cli", "logs", "-f", *words]),
        env=dict(os.environ) | {"FAAS_URL": node.url, "FAAS_TOKEN": node.token, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 10)


async def test_following_shows_lines_as_they_come(node: RunningNode) -> None:
    before = await node.call("prints.logs", json={})
    async with following(node, "prints.logs", "--json", "--lines", "3") as out:
        past = [json.loads(await asyncio.wait_for(out.readline(), 10)) for _ in range(3)]
        assert {line["call"] for line in past} == {before.headers["X-Call-Id"]}
        # The past is there: from here on the command follows.
        call = (await node.call("prints.logs", json={})).headers["X-Call-Id"]
        live = json.loads(await asyncio.wait_for(out.readline(), 10))
        assert live["call"] == call


async def test_a_failed_call_leaves_its_story(node: RunningNode) -> None:
    reply = await node.call("raises.e2e", json={"what": "plain"}, headers={"X-Request-Id": "theirs-1"})
    (line,) = await log_lines(node, "raises.e2e", call=reply.headers["X-Call-Id"])
    assert (line.level, line.text) == ("error", "KeyError: 'missing'")
    assert line.fields["request_id"] == "theirs-1", "found by the caller's own id too"
    assert 'return values["missing"]' in line.fields["traceback"]
    died = await node.call("crash.e2e", json={"how": "segfault"})
    lines = await log_lines(node, "crash.e2e", call=died.headers["X-Call-Id"])
    texts = " / ".join(line.text for line in lines)
    assert "last words" in texts
    assert "SIGSEGV" in texts


async def test_the_log_outlives_its_instances(node: RunningNode) -> None:
    await put(node, HANDLERS / "prints.py", app="logs", name="brief", idle="300ms")
    first = (await node.call("brief.logs", json={})).headers["X-Call-Id"]

    async def instances() -> int:
        return int((await node.api("GET", "/v1/functions/brief.logs"))["instances"])

    async def at_zero() -> bool:
        return await instances() == 0

    await wait_until(at_zero, 15, "it scales to zero")
    assert "from C" in [line.text for line in await log_lines(node, "brief.logs", call=first)]
    second = await node.call("brief.logs", json={})
    assert (second.status, second.headers["X-Faas-Start"]) == (200, "cold")
    instance = (await log_lines(node, "brief.logs", call=second.headers["X-Call-Id"]))[0].instance
    assert await asyncio.to_thread(_remove_container, instance) == 1
    kept = await log_lines(node, "brief.logs")
    assert {first, second.headers["X-Call-Id"]} <= {line.call for line in kept}


async def test_a_flood_is_bounded_and_says_what_was_dropped(node: RunningNode) -> None:
    await put(node, HANDLERS / "flood.py", app="logs", name="flood")
    long = await node.call("flood.logs", json={"how": "long"})  # first: after the flood there is no room for it
    flood = await node.call("flood.logs", json={"how": "raw", "lines": 12_000})
    assert flood.status == 200
    lines = await log_lines(node, "flood.logs")
    # An instance may send 4 MiB at once and 1 MiB a second, a node holds 2 MiB that are not on its disk yet. What was
    # too much is counted in the next line there is room for.
    assert 1_000 <= sum(line.call == flood.headers["X-Call-Id"] for line in lines) <= 7_000
    cut = [line.text for line in lines if line.call == long.headers["X-Call-Id"]]
    assert any("[cut, " in text for text in cut)
    assert all(len(text.encode()) <= 17 * 1024 for text in cut)

    async def said() -> bool:
        await node.call("flood.logs", json={"how": "print", "lines": 1})
        return any("[dropped" in line.text for line in await log_lines(node, "flood.logs", grep="[dropped"))

    await wait_until(said, 10, "the log says what is missing")
    assert sum(path.stat().st_size for path in _files(node, "flood")) <= 12 * MIB


def _remove_container(instance: str) -> int:
    """Remove an instance's container, as an operator in a hurry would; how many there were."""
    engine = docker.from_env()
    try:
        found = engine.api.containers(filters={"label": [f"faas.instance={instance}"]})
        for container in found:
            engine.api.remove_container(container["Id"], force=True)
        return len(found)
    finally:
        engine.close()


def _files(node: RunningNode, name: str) -> list[Path]:
    return [path for path in (node.data_dir / "logs" / "logs" / name).rglob("*") if path.is_file()]
