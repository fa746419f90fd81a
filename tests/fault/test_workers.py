"""`faas up --workers 2`: calls and the API through the HTTP processes, and what happens when one or the node dies."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fault.conftest import Ends, NodeMaker
from tests.integration.node import RunningNode
from tests.leftovers import assert_nothing_left
from tests.support import ROOT, free_port, require, wait_until

HANDLERS = ROOT / "tests" / "fixtures" / "handlers"
ECHO = ROOT / "tests" / "fixtures" / "integration" / "echo.py"
MIB = 1024**2


def workers(node: RunningNode) -> list[int]:
    """Process ids of the node's HTTP processes."""
    found = []
    for pid in _children(node.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except FileNotFoundError:
            continue
        if b"faas.worker" in command and str(node.data_dir).encode() in command:
            found.append(pid)
    return sorted(found)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def serves(pid: int, client_port: int) -> bool:
    """Process `pid` has the other end of the loopback connection from `client_port`."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].rpartition(":")[2], 16) == client_port:
            return any(_target(link) == f"socket:[{fields[9]}]" for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""


@asynccontextmanager
async def through(node: RunningNode, pid: int, url: str = "") -> AsyncIterator[aiohttp.ClientSession]:
    """A client with one connection, which process `pid` has accepted: the kernel deals them out by port."""
    for _ in range(100):
        ports: list[int] = []
        connector = aiohttp.TCPConnector(limit=1, socket_factory=partial(_bound, ports))
        async with aiohttp.ClientSession(url or node.url, connector=connector) as client:
            async with client.get("/healthz") as answer:
                assert answer.status == 200
            if serves(pid, ports[-1]):
                yield client
                return
    raise AssertionError(f"process {pid} accepted none of 100 connections")


def _bound(ports: list[int], info: Any) -> socket.socket:
    made = socket.socket(*info[:3])
    made.setblocking(False)
    made.bind(("127.0.0.1", 0))
    ports.append(made.getsockname()[1])
    return made


async def up(make_node: NodeMaker, *flags: str) -> RunningNode:
    """A node whose two HTTP processes take calls."""
    node = await make_node("--driver", "process", "--workers", "2", *flags)
    await wait_until(lambda: node.log().count("an HTTP process takes calls") == 2, 20, "both take calls")
    assert len(workers(node)) == 2
    return node


@pytest.fixture(scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    """Shared by the tests that leave it as it is."""
    async with RunningNode(tmp_path_factory.mktemp("workers"), "--driver", "process", "--workers", "2") as node:
        await wait_until(lambda: node.log().count("an HTTP process takes calls") == 2, 20, "both take calls")
        await node.push(ECHO)
        for name in ("stream", "raises", "slow"):
            await node.push(HANDLERS / f"{name}.py")
        yield node


# -- calls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 100_000, 3 * MIB])
async def test_calls_with_bodies_of_every_size(node: RunningNode, size: int) -> None:
    body = os.urandom(size)
    async with through(node, workers(node)[0]) as client:
        headers = {"Content-Type": "application/octet-stream", "X-Odd": "1"}
        async with client.put("/function/echo/sub/path?q=1", data=io.BytesIO(body), headers=headers) as answer:
            assert answer.status == 200
            assert answer.headers["X-Faas-Version"] == "1"
            assert {"X-Call-Id", "X-Faas-Start", "Server-Timing", "X-Duration-Seconds"} <= set(answer.headers)
            seen = await answer.json()
    assert (seen["method"], seen["path"], seen["query_string"]) == ("PUT", "/sub/path", "q=1")
    assert (seen["size"], seen["sha256"]) == (size, hashlib.sha256(body).hexdigest())
    assert ["x-odd", "1"] in [[name.lower(), value] for name, value in seen["headers"]]


async def test_streams_errors_and_unknown_names(node: RunningNode) -> None:
    async with through(node, workers(node)[1]) as client:
        async with client.post("/function/stream", json={"count": 40, "size": 100_000}) as answer:
            assert answer.status == 200
            assert len(await answer.read()) == 4_000_000
        async with client.post("/function/raises", json={"what": "plain"}) as answer:
            problem = await answer.json()
            assert (answer.status, problem["code"], problem["fault"]) == (500, "handler_raised", "function")
            assert problem["type_name"] == "KeyError"
            assert "in inner" in problem["traceback"]
        async with client.post("/function/raises", json={"what": "retry"}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, "retry")
            assert answer.headers["Retry-After"]
        async with client.post("/function/ecko") as answer:
            assert answer.status == 404
            assert "echo" in (await answer.json())["hint"]
        with pytest.raises(aiohttp.ClientPayloadError):
            async with client.post("/function/stream", json={"count": 3, "fail": True}) as answer:
                await answer.read()


async def test_a_caller_that_leaves_cancels_its_call(node: RunningNode) -> None:
    async with through(node, workers(node)[0]) as client:
        calling = asyncio.create_task(client.post("/function/slow", json={}))
        await wait_until(lambda: _says(node, "slow", "waiting"), 10, "it runs")
        calling.cancel()
        await asyncio.wait({calling})
    await wait_until(lambda: _says(node, "slow", "cleaning up"), 10, "the handler sees that nobody waits")


async def _says(node: RunningNode, name: str, text: str) -> bool:
    async with node.http.get(f"/v1/functions/{name}/logs", headers={"Authorization": f"Bearer {node.token}"}) as answer:
        return text in await answer.text()


async def test_background_calls_are_stored_by_the_worker_and_run_by_the_node(node: RunningNode) -> None:
    async with through(node, workers(node)[1]) as client:
        async with client.post("/async-function/echo", data=b"later") as answer:
            assert answer.status == 202
            where = answer.headers["Location"]
        headers = {"Authorization": f"Bearer {node.token}"}

        async def result() -> Any:
            async with client.get(f"{where}/result", headers=headers) as answer:
                return await answer.json() if answer.status == 200 else None

        assert (await wait_until(result, 10, "it has run"))["size"] == 5
        async with client.post("/function/echo", data=b"now", headers={"Prefer": "respond-async, wait=10"}) as answer:
            assert (answer.status, (await answer.json())["size"]) == (200, 3)


# -- everything else -------------------------------------------------------------------------------------------


async def test_the_control_api_through_a_worker(node: RunningNode) -> None:
    token = {"Authorization": f"Bearer {node.token}"}
    async with through(node, workers(node)[0]) as client:
        async with client.get("/v1/functions", headers=token) as answer:
            direct = await node.api("GET", "/v1/functions")
            assert len((await answer.json())["functions"]) == len(direct["functions"])
        async with client.get("/v1/functions") as answer:
            assert (answer.status, answer.headers["WWW-Authenticate"][:6]) == (401, "Bearer")
        async with client.get("/metrics", headers=token) as answer:
            assert "faas_" in await answer.text()
        async with client.head("/openapi.json") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
            assert int(answer.headers["Content-Length"]) > 1000
        async with client.get("/v1/no/such%2Fpath?x=1") as answer:
            assert answer.status == 404
        async with client.put(f"/v1/bundles/{'0' * 64}", data=bytes(MIB), headers=token, expect100=True) as answer:
            assert answer.status == 422, "the body went through, and is not what its name says"


async def test_wrong_tokens_are_counted_by_the_clients_address(node: RunningNode) -> None:
    async with through(node, workers(node)[1]) as client:
        wrong = [{"Authorization": f"Bearer wrong-{number}", "X-Faas-Client": "http 192.0.2.9"} for number in range(20)]
        statuses = []
        for headers in wrong:
            async with client.get("/v1/functions", headers=headers) as answer:
                statuses.append(answer.status)
        assert set(statuses) == {401, 429}
        assert statuses[-1] == 429, "the address is the connection's, whatever the client says"
    async with node.http.get("/v1/functions", headers=wrong[-1]) as answer:
        assert answer.status == 429, "whichever process it asks"
    headers = {"Authorization": f"Bearer {node.token}"}

    async def forgiven() -> bool:
        async with node.http.get("/v1/functions", headers=headers) as answer:
            return answer.status == 200

    await wait_until(forgiven, 10, "a guess comes back every two seconds")


async def test_followed_logs_flow_through_a_worker(node: RunningNode) -> None:
    token = {"Authorization": f"Bearer {node.token}"}
    async with (
        through(node, workers(node)[0]) as client,
        client.get("/v1/functions/raises/logs?follow=true", headers=token) as answer,
    ):
        assert answer.status == 200
        call = await node.call("raises", json={"what": "plain"})
        async with asyncio.timeout(10):
            async for line in answer.content:
                if call.headers["X-Call-Id"].encode() in line:
                    return
    raise AssertionError("the line did not come")


async def test_what_a_push_has_said_is_so_in_every_process(node: RunningNode, tmp_path: Path) -> None:
    pids = [node.pid, *workers(node)]
    async with through(node, pids[0]) as one, through(node, pids[1]) as two, through(node, pids[2]) as three:
        for number in range(1, 6):
            source = tmp_path / "turns.py"
            source.write_text(f"def handler(event):\n    return {number}\n")
            await node.push(source)
            for client in (one, two, three):
                async with client.get("/function/turns") as answer:
                    assert (answer.status, await answer.json()) == (200, number)


# -- life and death --------------------------------------------------------------------------------------------


async def test_a_killed_worker_loses_its_connections_and_nothing_else(make_node: NodeMaker) -> None:
    node = await up(make_node)
    await node.push(ECHO)
    victim, other = workers(node)
    serving, outcomes = True, Counter[str]()

    async def caller(client: aiohttp.ClientSession, name: str) -> None:
        while serving:
            try:
                async with client.post("/function/echo", data=b"x") as answer:
                    outcomes[f"{name} {answer.status}"] += 1
            except aiohttp.ClientError:
                outcomes[f"{name} lost"] += 1
                return

    async with (
        through(node, victim) as lost,
        through(node, other) as kept,
        through(node, node.pid) as direct,
    ):
        callers = [
            asyncio.create_task(caller(client, name))
            for client, name in ((lost, "lost"), (kept, "kept"), (direct, "direct"))
        ]
        await wait_until(lambda: min(outcomes[f"{name} 200"] for name in ("lost", "kept", "direct")) > 20, 20, "load")
        os.kill(victim, signal.SIGKILL)
        before = outcomes.copy()
        await wait_until(lambda: len(workers(node)) == 2 and victim not in workers(node), 10, "another is started")
        await wait_until(lambda: node.log().count("an HTTP process takes calls") == 3, 20, "it takes calls")
        await wait_until(lambda: outcomes["kept 200"] > before["kept 200"] + 20, 10, "the others go on")
        serving = False
        await asyncio.gather(*callers)
    # Its caller loses the call in flight, or none when the kill falls between two of them.
    assert set(outcomes) | {"lost lost"} == {"lost 200", "lost lost", "kept 200", "direct 200"}, outcomes
    assert "its connections with it; starting another" in node.log()
    fresh = next(pid for pid in workers(node) if pid != other)
    async with through(node, fresh) as client, client.post("/function/echo", data=b"x") as answer:
        assert answer.status == 200


async def test_a_killed_node_leaves_no_worker(make_node: NodeMaker) -> None:
    node = await up(make_node)
    before = workers(node)
    await node.kill9()
    await wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before), 5, "they die with it")
    await assert_nothing_left(node.data_dir, kinds=("processes",), timeout=5)
    await node.start()
    assert (await node.cli("status")).code == 0


async def test_stopping_lets_calls_of_workers_end(make_node: NodeMaker) -> None:
    node = await up(make_node, "--drain", "10s")
    await node.push(HANDLERS / "slow.py")
    token = {"Authorization": f"Bearer {node.token}"}
    async with through(node, workers(node)[0]) as client, through(node, workers(node)[1]) as follower:
        logs = await follower.get("/v1/functions/slow/logs?follow=true", headers=token)
        calling = asyncio.create_task(client.post("/function/slow", json={"seconds": 1.5}))
        await wait_until(lambda: _says(node, "slow", "waiting"), 10, "it runs")
        await node.stop(timeout_s=30)
        answer = await calling
        assert (answer.status, await answer.read()) == (200, b"done")
        logs.close()
    assert "are killed" not in node.log()


async def test_a_shared_port_is_still_one_nodes_port(make_node: NodeMaker, ends: Ends, tmp_path: Path) -> None:
    node = await up(make_node)
    listen = node.url.removeprefix("http://")
    flags = ("--driver", "process", "--listen", listen, "--workers", "1")
    taken = await ends("faas.serve", "--data-dir", str(tmp_path / "other"), *flags)
    assert taken.code == 3
    assert f"cannot listen on {listen}: Address already in use" in taken.err


async def test_a_worker_of_a_public_listener_shows_what_the_node_shows_there(make_node: NodeMaker) -> None:
    require("bwrap")
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
    flags = ("--driver", "process", "--workers", "2", "--listen", f"0.0.0.0:{port}", "--admin-listen", admin)
    node = await make_node(*flags, url=f"http://{admin}")
    await wait_until(lambda: node.log().count("an HTTP process takes calls") == 2, 20, "both take calls")
    await node.push(ECHO)
    await node.push(ECHO, "--name", "open", "--public")
    token = {"Authorization": f"Bearer {node.token}"}
    seen: dict[str, int] = {}
    async with through(node, workers(node)[0], f"http://127.0.0.1:{port}") as client:
        for what, path, headers in (
            ("private", "/function/echo", {}),
            ("private with a token", "/function/echo", token),
            ("public", "/function/open", {}),
            ("control", "/v1/functions", token),
            ("health", "/healthz", {}),
            ("somebody's result", "/v1/invocations/c-0123456789abcdef0123456789ab", {}),
        ):
            async with client.get(path, headers=headers) as answer:
                seen[what] = answer.status
    assert seen == {
        "private": 401, "private with a token": 200, "public": 200, "control": 404, "health": 200,
        "somebody's result": 401,
    }  # fmt: skip
