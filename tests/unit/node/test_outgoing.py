"""Calls that an instance makes: chains, limits, hostile frames, and a child that dies with calls open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from faas.errors import NotFound, ProtocolError
from faas.model import VersionId
from faas.node.call import BodyStream, Call, Reply
from faas.node.instance import Instance
from faas.node.outgoing import BODY_MAX, DEPTH_MAX, OPEN_MAX, Outgoing
from faas.wire import messages as m
from faas.wire.limits import CHUNK_MAX, INLINE_MAX, WINDOW
from tests.support import wait_until


class Caller:
    """An instance as `Outgoing` sees it; keeps what it is sent."""

    id = "i-1"
    version_id = VersionId("shop", "cart", 2)

    def __init__(self) -> None:
        self.link = self
        self.got: list[m.Message] = []

    def send(self, message: m.Message) -> None:
        self.got.append(message)


class Bench:
    """One instance that calls; `run` is what its calls meet."""

    def __init__(self) -> None:
        self.caller = Caller()
        self.calls: list[tuple[str, Call, float]] = []
        self.run: Callable[[Call], Awaitable[Reply]] = echo
        self.outgoing = Outgoing(self._invoke, lambda: "c-new")

    async def _invoke(self, target: str, call: Call, *, timeout_s: float) -> Reply:
        self.calls.append((target, call, timeout_s))
        return await self.run(call)

    def say(self, message: m.Message) -> None:
        self.outgoing.on_frame(cast("Instance", self.caller), message)

    def die(self) -> None:
        self.outgoing.forget(cast("Instance", self.caller))

    async def answer(self, stream: int = 1) -> list[m.Message]:
        """Every frame of `stream`, CREDIT left out, once its last one has come."""

        def frames() -> list[m.Message]:
            found = [one for one in self.caller.got if one[1] == stream and one[0] != m.CREDIT]
            return found if found and found[-1][0] in (m.REPLY, m.END, m.ERROR) else []

        return cast("list[m.Message]", await wait_until(frames, 5, "an answer"))


async def echo(call: Call) -> Reply:
    return Reply(200, [(b"a", b"b")], call.body, run_ms=2)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


def head(target: str = "stock", timeout_ms: float = 1500, **extra: Any) -> list[Any]:
    return ["c-above", "call", "POST", target, "q=1", [[b"x", b"y"]], timeout_ms, extra]


async def test_a_call_and_its_answer(bench: Bench) -> None:
    bench.say(m.invoke(1, head(trace="00-a", chain=["web@1"]), b"body", True))
    assert await bench.answer() == [[m.REPLY, 1, 200, [(b"a", b"b")], b"body", {"run_us": 2000}]]
    target, call, timeout_s = bench.calls[0]
    assert (target, timeout_s, call.id, call.kind, call.query) == ("stock", 1.5, "c-new", "call", "q=1")
    assert call.extra["chain"] == ["web@1", "cart.shop@2"]
    assert (call.extra["trace"], call.extra["parent"]) == ("00-a", "c-above")


async def test_large_bodies_go_in_pieces_and_wait_for_credit(bench: Bench) -> None:
    size = WINDOW + 2 * CHUNK_MAX
    bench.say(m.invoke(1, head(), b"", False))
    for _ in range(size // CHUNK_MAX):
        bench.say(m.chunk(1, bytes(CHUNK_MAX)))
    bench.say(m.end(1, {}))
    assert [m.CREDIT, 1, CHUNK_MAX] in bench.caller.got

    def sent() -> int:
        return sum(len(one[2]) for one in bench.caller.got if one[0] == m.CHUNK)

    await wait_until(lambda: sent() == WINDOW, 5, "as much as there is credit for")
    bench.say(m.credit(1, WINDOW))
    frames = await bench.answer()
    assert (frames[0][0], frames[-1][0], sent()) == (m.HEAD, m.END, size)


async def test_errors_say_whose_fault_it_is(bench: Bench) -> None:
    async def missing(_call: Call) -> Reply:
        raise NotFound("no such function", hint="look")

    async def defect(_call: Call) -> Reply:
        raise RuntimeError("secret")

    bench.run = missing
    bench.say(m.invoke(1, head(), b"", True))
    detail = (await bench.answer())[0][2]
    assert (detail["kind"], detail["status"], detail["hint"]) == ("caller", 404, "look")
    bench.run = defect
    bench.say(m.invoke(3, head(), b"", True))
    assert "secret" not in str(await bench.answer(3))


async def test_limits(bench: Bench) -> None:
    bench.say(m.invoke(1, head(chain=[f"f{n}@1" for n in range(DEPTH_MAX)]), b"", True))
    assert "deep" in (await bench.answer())[0][2]["message"]
    bench.say(m.invoke(3, head(), b"", False))
    for _ in range(BODY_MAX // CHUNK_MAX + 8):
        bench.say(m.chunk(3, bytes(CHUNK_MAX)))
    bench.say(m.end(3, {}))
    assert (await bench.answer(3))[0][2]["status"] == 413
    assert bench.calls == []
    bench.outgoing._held.total = INLINE_MAX - 1
    bench.say(m.invoke(5, head(), bytes(INLINE_MAX), True))
    assert (await bench.answer(5))[0][2]["status"] == 429
    assert bench.outgoing._held.used == 0


@pytest.mark.parametrize(
    "frames",
    [
        [m.chunk(1, b"x")],
        [m.invoke(1, head(), b"", False), m.invoke(1, head(), b"", False)],
        [m.invoke(1, head(), b"", False), m.chunk(1, bytes(CHUNK_MAX + 1))],
        [m.invoke(1, head(), b"", True), m.chunk(1, b"x")],
        [m.invoke(1, head(), b"", True), m.end(1, {})],
        [m.invoke(1, head(), b"", False), m.credit(1, -1)],
        [m.invoke(1, head(), b"", False), m.reply(1, 200, [], b"", {})],
        [m.invoke(1, [1], b"", True)],
        [m.invoke(1, [*head()[:5], [[10**9, 1]], 1, {}], b"", True)],
        [[m.INVOKE, "one", head(), b"", True]],
        [m.invoke(n, head(), b"", False) for n in range(OPEN_MAX + 1)],
    ],
    ids=[
        "not open", "twice", "large chunk", "chunk after end", "end twice", "credit", "answer", "short", "header",
        "stream", "many",
    ],
)  # fmt: skip
async def test_frames_out_of_order_end_the_instance(bench: Bench, frames: list[m.Message]) -> None:
    *before, last = frames
    for frame in before:
        bench.say(frame)
    with pytest.raises(ProtocolError):
        bench.say(last)
    bench.die()


async def test_cancel_in_every_state_is_answered(bench: Bench) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def hang(call: Call) -> Reply:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return await echo(call)

    bench.run = hang
    bench.say(m.cancel(9, "never opened"))
    bench.say(m.invoke(1, head(), b"", False))
    bench.say(m.cancel(1, "its body is on its way"))
    bench.say(m.invoke(3, head(), b"", True))
    bench.say(m.cancel(3, "not begun"))
    bench.say(m.invoke(5, head(), b"", True))
    await asyncio.wait_for(began.wait(), 5)
    bench.say(m.cancel(5, "it runs"))
    for stream in (1, 3, 5):
        assert (await bench.answer(stream))[0][2]["kind"] == "cancelled"
    assert ended.is_set()


async def test_a_dead_child_ends_its_calls_and_the_next_counts_from_one(bench: Bench) -> None:
    abandoned: list[str] = []

    async def stream(_call: Call) -> Reply:
        reply = Reply(200, [], stream=BodyStream(lambda _: None))
        reply.abandon = abandoned.append
        return reply

    bench.run = stream
    bench.say(m.invoke(1, head(), b"", True))
    await wait_until(lambda: [one for one in bench.caller.got if one[0] == m.HEAD], 5, "the head")
    bench.die()
    await wait_until(lambda: abandoned, 5, "the callee hears of it")
    bench.run = echo
    bench.caller.got.clear()
    bench.say(m.invoke(1, head(), b"again", True))
    assert [frame[0] for frame in await bench.answer()] == [m.REPLY], "what the first child asked is not answered"
