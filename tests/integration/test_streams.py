"""Streamed replies, callers that go away, and several calls at once in one instance."""

from __future__ import annotations

import asyncio
import socket
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tests.integration.conftest import HERE, log_lines, put, write_folder
from tests.integration.node import RunningNode
from tests.support import wait_until

KIB, MIB = 1024, 1024 * 1024
STREAMS = ["clock.e2e", "clock-async.e2e"]
WAITS = ["waits.e2e", "waits-async.e2e"]


@pytest.fixture(scope="module")
async def node(docker_node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> RunningNode:
    """With the functions of this module, each in a single instance so that a slot that was not freed is missed."""
    files = {"clock": "clock", "clock-async": "clock_async", "waits": "waits", "waits-async": "waits_async"}
    sources = {name: HERE / f"{file}.py" for name, file in (files | {"meeting": "meeting"}).items()}
    await put(docker_node, write_folder(tmp_path_factory.mktemp("streams"), sources, "max = 1\ntimeout = 20"))
    return docker_node


@pytest.mark.parametrize("name", STREAMS)
async def test_pieces_arrive_as_they_are_made(node: RunningNode, name: str) -> None:
    arrived: list[tuple[float, float]] = []
    async with node.http.post(f"/function/{name}", json={"count": 3, "pause": 0.2}) as answer:
        assert answer.status == 200
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert "X-Duration-Seconds" not in answer.headers, "not known when the head is sent"
        assert answer.headers["X-Faas-Version"] == "1"
        async for line in answer.content:
            arrived.append((float(line), time.time()))
    assert len(arrived) == 3
    for (_, came), (next_made, _) in pairwise(arrived):
        assert came < next_made, "each piece is here before the next one is made"


class SlowReader:
    """A caller that takes the head of a reply and then no more until it is told to."""

    def __init__(self, node: RunningNode) -> None:
        self._address = URL(node.url)
        self._socket = socket.socket()
        # Before connect: it bounds the window, and with it what the kernel takes on the reader's behalf.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        self._socket.setblocking(False)

    async def ask(self, path: str) -> bytes:
        """Send a GET; what came first."""
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, (self._address.host, self._address.port))
        await loop.sock_sendall(self._socket, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return await loop.sock_recv(self._socket, 4 * KIB)

    async def rest(self) -> int:
        """Bytes that were still to come."""
        loop, size = asyncio.get_running_loop(), 0
        while part := await asyncio.wait_for(loop.sock_recv(self._socket, MIB), 10):
            size += len(part)
        return size

    def close(self) -> None:
        self._socket.close()


async def settled(count: Any) -> int:
    """The value of `count()` once it has stayed the same for half a second."""
    seen: list[tuple[float, int]] = []

    async def same() -> bool:
        value = await count()
        if not seen or seen[-1][1] != value:
            seen.append((time.monotonic(), value))
        return value > 0 and time.monotonic() - seen[-1][0] > 0.5

    await wait_until(same, 15, "the count stays the same")
    return seen[-1][1]


@pytest.mark.parametrize("name", STREAMS)
async def test_a_slow_reader_holds_the_handler_back(node: RunningNode, name: str) -> None:
    size, pieces = 64 * KIB, 512

    async def made() -> int:
        if name == "clock-async.e2e":
            return int((await node.call(name, json={"how": "made"})).json()["made"])
        return len(await log_lines(node, name))

    before = 0 if name == "clock-async.e2e" else len(await log_lines(node, name))
    reader = SlowReader(node)
    try:
        head = await reader.ask(f"/function/{name}?size={size}&count={pieces}&log=1")
        assert head.startswith(b"HTTP/1.1 200")
        held = await settled(made) - before
        # The protocol's window, the gateway's and the kernel's send buffers (4 MiB at most by default).
        assert held * size <= 8 * MIB, f"{held} of {pieces} pieces were made for a reader that takes none"
        assert await reader.rest() + len(head) > pieces * size
    finally:
        reader.close()
    assert await settled(made) - before == pieces


@pytest.mark.parametrize("name", STREAMS)
async def test_a_reader_that_goes_away_ends_the_stream(node: RunningNode, name: str) -> None:
    reader = SlowReader(node)
    await reader.ask(f"/function/{name}?size={64 * KIB}&count=100000")
    reader.close()
    reply = await node.call(name, json={"count": 1})
    assert reply.status == 200, "the slot is free again"
    if name == "clock-async.e2e":
        await wait_until(lambda: log_lines(node, name, grep="stream ended after"), 5, "the generator was closed")


async def test_a_stream_that_fails_is_visibly_cut(node: RunningNode, tmp_path: Path) -> None:
    source = tmp_path / "breaks.py"
    source.write_text("def handler(event):\n    yield 'one\\n'\n    raise ValueError('in the middle')\n")
    await put(node, source, app="e2e")
    reader, writer = await asyncio.open_connection(URL(node.url).host, URL(node.url).port)
    writer.write(b"GET /function/breaks.e2e HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        answer = await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        answer = b""
    writer.close()
    assert not answer.endswith(b"0\r\n\r\n"), "no end of the body: the caller can tell"
    await wait_until(lambda: log_lines(node, "breaks.e2e", grep="in the middle"), 5, "the cause is in the log")


@pytest.mark.parametrize("name", WAITS)
async def test_a_caller_that_goes_away_cancels_the_run(node: RunningNode, name: str) -> None:
    mark = f"mark-{time.monotonic_ns()}"
    call = asyncio.create_task(node.call(name, json={"seconds": 15, "mark": mark}))
    await wait_until(lambda: log_lines(node, name, grep=f"waiting {mark}"), 5, "the handler runs")
    began = time.monotonic()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await wait_until(lambda: log_lines(node, name, grep=f"cancelled {mark}"), 5, "the handler saw it")
    reply = await node.call(name, json={"seconds": 0})
    assert (reply.status, reply.body, reply.headers["X-Faas-Start"]) == (200, b"done", "warm")
    assert time.monotonic() - began < 10, "the only slot was not held for the whole 15 s"


@pytest.mark.parametrize("name", WAITS)
async def test_a_run_past_its_deadline_is_504(node: RunningNode, name: str) -> None:
    source = HERE / f"{name.removesuffix('.e2e').replace('-', '_')}.py"
    await put(node, source, app="e2e", name=name.removesuffix(".e2e") + "-brief", timeout="300ms")
    brief = name.replace(".e2e", "-brief.e2e")
    began = time.monotonic()
    reply = await node.call(brief, json={"seconds": 15})
    assert time.monotonic() - began < 3
    problem = reply.json()
    assert (reply.status, problem["code"], problem["fault"]) == (504, "deadline_exceeded", "function")
    assert "0.3 s" in problem["detail"]
    assert reply.headers["Proxy-Status"].startswith("faas; error=http_response_timeout")
    assert (await node.call(brief, json={"seconds": 0})).body == b"done"


async def test_one_instance_takes_sixteen_async_calls_at_once(node: RunningNode) -> None:
    calls = [node.call("meeting.e2e", json={"size": 16}) for _ in range(16)]
    replies = await asyncio.wait_for(asyncio.gather(*calls), 10)
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1, "one instance, and each call waited for all the others"
