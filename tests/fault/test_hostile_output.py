"""Too much output, output that is no text, and replies that cannot be sent or that nobody could hold."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import pytest

from tests.fault.hostile import APP, problem, push, timed, unharmed
from tests.integration.conftest import log_lines
from tests.integration.node import RunningNode
from tests.support import require, wait_until

pytestmark = pytest.mark.docker
SIZE = 100_000_000
NOT_JSON = [
    "nan",
    "infinity",
    "cycle",
    "deep",
    "huge int",
    "set",
    "object",
    "lock",
    "module",
    "bytes inside",
    "odd key",
]
NOT_HTTP = ["bad status", "line end", "many headers", "long header"]
LOGGED_MAX = 10 * 1024 * 1024
"""Bytes of log kept of one function."""


@pytest.fixture(scope="module")
async def node(docker_node: RunningNode) -> RunningNode:
    require("docker", "images")
    await push(docker_node, "prints", memory="512M", timeout="20s")
    await push(docker_node, "returns", memory="512M", timeout="20s")
    return docker_node


@pytest.mark.parametrize("how", ["lines", "raw", "errors", "one line", "one print"])
async def test_a_hundred_megabytes_of_output_are_bounded_and_counted(node: RunningNode, how: str) -> None:
    async with unharmed(node, "prints"):
        reply, took = await timed(node, "prints", {"how": how})
        assert (reply.status, reply.body) == (200, b"fine")
        assert took < 10, "what nobody keeps is not waited for"
    call = reply.headers["X-Call-Id"]
    words = r"\[dropped \d+ lines, (\d+) bytes" if how in ("lines", "raw", "errors") else r"\[cut, (\d+) bytes\]"

    async def counted() -> int:
        """Bytes that are said to be missing, of the last second of this call's output."""
        lines = await log_lines(node, f"prints.{APP}")
        return sum(int(found[1]) for line in lines if (found := re.search(words, line.text)))

    await wait_until(counted, 5, f"what is missing of {how} is counted")
    kept = await log_lines(node, f"prints.{APP}", call=call)
    assert kept, "its beginning is there"
    assert sum(len(line.text) for line in kept) <= LOGGED_MAX


async def test_binary_output_is_kept_as_text_that_can_be_shown(node: RunningNode) -> None:
    async with unharmed(node, "prints"):
        reply, _ = await timed(node, "prints", {"how": "binary"})
        assert reply.body == b"fine"
    call = reply.headers["X-Call-Id"]

    async def there() -> bool:
        return len(await log_lines(node, f"prints.{APP}", call=call)) >= 3

    await wait_until(there, 5, "all of it is in the log")
    shown = await node.cli("logs", f"prints.{APP}")
    assert shown.code == 0
    assert "\x1b[2J" not in shown.out, "a function cannot paint on the operator's terminal"


@pytest.mark.parametrize("what", NOT_JSON + NOT_HTTP)
async def test_what_cannot_be_sent_is_said_with_its_reason(node: RunningNode, what: str) -> None:
    async with unharmed(node, "returns"):
        reply, took = await timed(node, "returns", {"what": what})
        document = problem(reply, 500, "bad_reply")
        assert len(document["detail"]) < 1_000
        assert took < 5


async def test_a_value_that_fails_while_it_is_sent_is_the_functions_fault(node: RunningNode) -> None:
    async with unharmed(node, "returns"):
        reply, _ = await timed(node, "returns", {"what": "sly"})
        assert (reply.status, reply.json()["fault"]) == (500, "function")


@pytest.mark.parametrize(("what", "size"), [("bytes", SIZE), ("text", SIZE), ("json", SIZE + 301)])
async def test_a_hundred_megabytes_of_reply_stream_through(node: RunningNode, what: str, size: int) -> None:
    async with unharmed(node, "returns"):
        before, peak, got = _memory(node), 0, 0
        async with node.http.post(f"/function/returns.{APP}", json={"what": what}) as answer:
            assert answer.status == 200
            async for piece in answer.content.iter_chunked(1 << 20):
                got += len(piece)
                peak = max(peak, _memory(node))
        assert got == size
        assert peak - before < 40 * 1024 * 1024, "the node holds a window of it, not the whole"


async def test_a_reader_that_does_not_read_holds_the_function_and_not_the_node(node: RunningNode) -> None:
    async with unharmed(node, "returns"):
        before = _memory(node)
        async with node.http.post(f"/function/returns.{APP}", json={"what": "endless"}) as answer:
            assert answer.status == 200
            await answer.content.readexactly(1000)
            for _ in range(10):
                reply, took = await timed(node, "neighbour", {})
                assert (reply.status, took < 1) == (200, True)
                await asyncio.sleep(0.05)
            assert _memory(node) - before < 40 * 1024 * 1024
            answer.close()


async def test_a_stream_that_breaks_is_seen_to_be_cut(node: RunningNode) -> None:
    async with unharmed(node, "returns"), asyncio.timeout(2):
        answer = await node.http.post(f"/function/returns.{APP}", json={"what": "breaks"})
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


def _memory(node: RunningNode) -> int:
    """Resident bytes of the node's process."""
    with open(f"/proc/{node.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096
