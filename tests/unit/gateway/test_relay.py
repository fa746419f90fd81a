"""The relay between a worker and its node: both ends in one loop, a real socket between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from faas.control.catalog import Catalog
from faas.control.relay import Relay
from faas.errors import DeadlineExceeded, FaasError, HandlerRaised, TooLarge, TooManyRequests, Unavailable, all_errors
from faas.gateway import relay as worker_side
from faas.gateway.relay import RelayInvoker, reachable
from faas.ids import new_id
from faas.model import Function, Settings, Version
from faas.names import parse_target
from faas.node.call import BodyStream, Call, Reply
from faas.node.failures import from_whole, whole
from faas.store.registry import Registry, Snapshot
from faas.wire import messages as m
from faas.wire.codec import encode
from faas.wire.limits import INLINE_MAX, PROTOCOL, WINDOW
from tests.support import wait_until

MIB = 1024**2
BODY_MAX = 4 * MIB


class FakeRegistry:
    """What both ends read their functions from."""

    def __init__(self) -> None:
        self.snapshot = snapshot(1)
        self.loads = 0

    async def load(self) -> Snapshot:
        self.loads += 1
        return self.snapshot

    async def version(self, name: object, number: int) -> Version | None:
        return None


def snapshot(position: int, *names: str) -> Snapshot:
    version = Version(number=3, code="x", settings=Settings())
    functions = {
        f"shop/{name}": Function(app="shop", name=name, aliases={"live": {3: 100}}, versions={3: version}, latest=3)
        for name in ("hello", *names)
    }
    return Snapshot(functions=functions, position=f"{position}-0")


class Ends:
    """Both ends. `run` is what the node does with a call."""

    def __init__(self, directory: Path) -> None:
        self.run: Callable[[Call], Awaitable[Reply]] = echo
        self.calls: list[Call] = []
        self.ran: list[tuple[str, int]] = []
        self.here, self.there = FakeRegistry(), FakeRegistry()
        self.worker = Catalog(cast("Registry", self.here))
        self.node = Catalog(cast("Registry", self.there))
        self.lost = asyncio.Event()
        self.relay = Relay(directory, self.node, self._run, BODY_MAX)
        self.invoker = RelayInvoker(self.worker, directory, self.lost)

    async def _run(self, function: Function, version: Version, call: Call) -> Reply:
        self.calls.append(call)
        self.ran.append((str(function.id), version.number))
        return await self.run(call)

    async def call(self, body: bytes = b"", **head: Any) -> Reply:
        """One call through the relay."""
        return await self.send(Call(new_id("c"), body=body, **head))

    async def send(self, call: Call, name: str = "hello.shop") -> Reply:
        target = parse_target(name)
        found = self.invoker.resolve_now(target) or await self.invoker.resolve(target)
        async with asyncio.timeout(10):
            return await self.invoker.run(*found, call)


async def echo(call: Call) -> Reply:
    return Reply(200, [(b"content-type", b"text/plain")], call.body)


async def read(reply: Reply) -> bytes:
    if reply.stream is None:
        return reply.body
    return b"".join([chunk async for chunk in reply.stream])


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    """Afterwards no call is left at either end."""
    async with AsyncExitStack() as stack:
        # Longer than an address of a socket may be.
        directory = tmp_path / ("d" * 100) / "relay"
        directory.parent.mkdir()
        both = Ends(directory)
        await both.worker.load()
        await both.node.load()
        await stack.enter_async_context(both.relay)
        await stack.enter_async_context(both.invoker)
        yield both
        await wait_until(lambda: not both.invoker._attempts, 5, "every call has ended at the worker")
        await wait_until(lambda: both.relay._held.used == 0, 5, "every body is let go at the node")
    assert not directory.exists()


async def test_a_call_arrives_whole_and_so_does_what_the_node_knows_of_its_reply(ends: Ends) -> None:
    async def run(call: Call) -> Reply:
        reply = Reply(201, [(b"x", b"\xff")], b"made", run_ms=1.5)
        reply.queue_ms, reply.start_ms, reply.cold, reply.version = 2.5, 12.25, True, 3
        return reply

    ends.run = run
    headers = [(b"content-type", b"text/plain"), (b"x-odd", b"\xe9")]
    extra = {"client": "192.0.2.7", "trace": "00-a-b-01"}
    sent = Call("c-1", method="PUT", path="/a%2Fb/@c", query="q=1&q=2", headers=headers, body=b"body", extra=extra)
    reply = await ends.send(sent)
    (call,) = ends.calls
    assert (call.id, call.kind, call.method, call.path, call.query) == ("c-1", "http", "PUT", "/a%2Fb/@c", "q=1&q=2")
    assert [tuple(pair) for pair in call.headers] == headers
    assert (call.body, call.extra, ends.ran) == (b"body", extra, [("hello.shop", 3)])
    assert (reply.status, reply.body, reply.run_ms) == (201, b"made", 1.5)
    assert [tuple(pair) for pair in reply.headers] == [(b"x", b"\xff")]
    assert (reply.queue_ms, reply.start_ms, reply.cold, reply.version) == (2.5, 12.25, True, 3)


@pytest.mark.parametrize("size", [0, 1, INLINE_MAX, INLINE_MAX + 1, WINDOW + 1, BODY_MAX])
async def test_bodies_of_every_size_go_there_and_back(ends: Ends, size: int) -> None:
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    replies = await asyncio.gather(*(ends.call(body) for _ in range(3)))
    assert [await read(reply) for reply in replies] == [body] * 3


async def test_a_body_over_the_limit_costs_its_call_only(ends: Ends) -> None:
    with pytest.raises(TooLarge, match="more than 4MiB"):
        await ends.call(bytes(BODY_MAX + WINDOW))
    assert ends.calls == []
    assert (await ends.call(b"next")).body == b"next"


async def test_bodies_that_fill_the_nodes_memory_are_refused(ends: Ends) -> None:
    ends.relay._held.total = MIB
    with pytest.raises(TooManyRequests) as refused:
        await ends.call(bytes(2 * MIB))
    assert refused.value.retry_after_s == 1.0
    assert await read(await ends.call(bytes(MIB))) == bytes(MIB)


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.code)
def test_errors_cross_as_what_they_are(kind: type[FaasError]) -> None:
    error = kind("what is wrong", hint="what to do", retry_after_s=2.5, extra={"exit": {"code": 3}, "allow": ["GET"]})
    got = from_whole(msgspec.msgpack.decode(msgspec.msgpack.encode(whole(error))))
    assert (type(got), got.status, got.fault) == (kind, kind.status, kind.fault)
    assert (got.message, got.hint, got.retry_after_s, got.extra) == (
        error.message, error.hint, error.retry_after_s, error.extra,
    )  # fmt: skip


@pytest.mark.parametrize("begun", [True, False])
async def test_an_error_tells_whether_the_handler_may_have_seen_the_call(ends: Ends, begun: bool) -> None:
    async def run(call: Call) -> Reply:
        call.begun = begun
        raise HandlerRaised("ValueError: no", hint="look", extra={"traceback": "line 1", "type_name": "ValueError"})

    ends.run = run
    call = Call("c-1")
    with pytest.raises(HandlerRaised, match="ValueError: no") as raised:
        await ends.send(call)
    assert raised.value.extra == {"traceback": "line 1", "type_name": "ValueError"}
    assert call.begun is begun


async def test_an_error_larger_than_a_frame_arrives_all_the_same(ends: Ends) -> None:
    async def run(_call: Call) -> Reply:
        raise HandlerRaised("too long", extra={"traceback": "x" * (2 * MIB)})

    ends.run = run
    with pytest.raises(HandlerRaised, match="too long"):
        await ends.call()


async def test_a_stream_that_fails_in_the_middle_fails_here_too(ends: Ends) -> None:
    async def run(_call: Call) -> Reply:
        stream = BodyStream(lambda _: None)
        stream.feed(b"one")
        stream.finish(DeadlineExceeded("too slow"))
        return Reply(200, [], stream=stream)

    ends.run = run
    reply = await ends.call()
    assert reply.stream is not None
    chunks = aiter(reply.stream)
    assert await anext(chunks) == b"one"
    with pytest.raises(DeadlineExceeded, match="too slow"):
        await anext(chunks)


async def test_a_caller_that_goes_away_cancels_its_call_at_the_node(ends: Ends) -> None:
    cancelled = asyncio.Event()

    async def run(call: Call) -> Reply:
        if call.body == b"next":
            return await echo(call)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    ends.run = run
    for body in (b"", bytes(BODY_MAX)):
        cancelled.clear()
        caller = asyncio.create_task(ends.call(body))
        await wait_until(lambda: ends.calls, 5, "the node runs it")
        caller.cancel()
        await asyncio.wait_for(cancelled.wait(), 5)
        ends.calls.clear()
    # Before all of the body was on its way: the rest of it is not sent, and nobody takes offence.
    caller = asyncio.create_task(ends.call(bytes(BODY_MAX)))
    await asyncio.sleep(0)
    caller.cancel()
    assert (await ends.call(b"next")).body == b"next"
    assert ends.relay.connected == 1


async def test_nobody_reads_the_rest_of_a_stream(ends: Ends) -> None:
    abandoned = asyncio.Event()
    stream = BodyStream(lambda _: None)

    async def run(_call: Call) -> Reply:
        reply = Reply(200, [], stream=stream)
        reply.abandon = lambda _reason: abandoned.set()
        stream.feed(bytes(WINDOW))
        stream.feed(bytes(WINDOW))
        return reply

    ends.run = run
    reply = await ends.call()
    assert not abandoned.is_set()
    reply.abandon("the caller went away")
    await asyncio.wait_for(abandoned.wait(), 5)


async def test_a_broken_connection_fails_what_runs_and_is_made_again(ends: Ends) -> None:
    async def hang(call: Call) -> Reply:
        await asyncio.Event().wait()
        return await echo(call)

    ends.run = hang
    call = Call("c-1")
    running = asyncio.create_task(ends.send(call))
    await wait_until(lambda: ends.calls, 5, "the node runs it")
    next(iter(ends.relay._workers)).connection.close("a defect")
    with pytest.raises(Unavailable, match="broke while the call ran") as raised:
        await running
    assert "only if running twice does no harm" in raised.value.hint
    assert call.begun
    ends.run = echo
    assert (await ends.call(b"again")).body == b"again"
    assert not ends.lost.is_set()


async def test_a_node_that_stays_away_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_side, "LOST_S", 0.2)
    monkeypatch.setattr(worker_side, "PATIENCE_S", 0.05)
    ends = Ends(tmp_path / "relay")
    await ends.worker.load()
    with pytest.raises(Unavailable, match="no node answers"):
        await ends.invoker.__aenter__()
    async with ends.relay:
        await ends.invoker.__aenter__()
    await wait_until(lambda: ends.invoker._connection is None, 5, "the worker has noticed")
    call = Call("c-1")
    with pytest.raises(Unavailable, match="does not answer"):
        await ends.send(call)
    assert not call.begun
    await asyncio.wait_for(ends.lost.wait(), 5)
    await ends.invoker.__aexit__(None, None, None)


async def test_a_change_the_node_has_seen_is_waited_for(ends: Ends) -> None:
    ends.there.snapshot = snapshot(7, "fresh")
    await ends.node.load()  # the node's own push: it hears of it first, and tells
    hello = parse_target("hello.shop")
    await wait_until(lambda: ends.invoker.resolve_now(hello) is None, 5, "the worker knows that it is behind")
    asked = asyncio.create_task(ends.send(Call("c-1", body=b"hi"), "fresh.shop"))
    await asyncio.sleep(0)
    assert not asked.done()
    ends.here.snapshot = ends.there.snapshot
    await ends.worker.load()
    assert (await asked).body == b"hi"
    assert ends.invoker.resolve_now(hello) is not None


async def test_a_worker_that_cannot_catch_up_goes_on_with_what_it_knows(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_side, "PATIENCE_S", 0.02)
    ends.there.snapshot = snapshot(7)
    await ends.node.load()
    hello = parse_target("hello.shop")
    await wait_until(lambda: ends.invoker.resolve_now(hello) is None, 5, "the worker knows that it is behind")
    assert (await ends.call(b"still")).body == b"still"
    assert ends.invoker.resolve_now(hello) is not None, "once is enough: later calls do not wait"


async def test_the_node_catches_up_with_a_worker_that_knows_more(ends: Ends) -> None:
    ends.here.snapshot = ends.there.snapshot = snapshot(9, "elsewhere")  # pushed on another node
    await ends.worker.load()
    loads = ends.there.loads
    replies = await asyncio.gather(*(ends.send(Call(new_id("c")), "elsewhere.shop") for _ in range(5)))
    assert [reply.status for reply in replies] == [200] * 5
    assert ends.there.loads == loads + 1, "once for all"


@pytest.mark.parametrize(
    "frame", [m.hello(PROTOCOL + 1, "worker", {}), m.hello(PROTOCOL, "data", {}), m.ping(1)], ids=repr
)
async def test_strangers_are_refused(ends: Ends, frame: m.Message) -> None:
    with reachable(ends.relay._directory) as path:
        reader, writer = await asyncio.open_unix_connection(f"{path}/sock")
    writer.write(encode(frame))
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await writer.wait_closed()
    assert ends.relay.connected == 1
