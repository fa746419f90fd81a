"""One call through pool, instance and attempt: answers, errors, deadlines, crashes, disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from faas.drivers.api import Exit
from faas.drivers.script import Answer, Call, Crash, Die, Fail
from faas.errors import (
    BadReply,
    BadRequest,
    CrashLoop,
    DeadlineExceeded,
    HandlerRaised,
    InstanceDied,
    NoRoom,
    StartFailed,
    TooManyRequests,
    Unavailable,
)
from faas.ids import new_id
from faas.node import call as calls
from faas.node.call import Reply
from faas.wire.limits import INLINE_MAX, WINDOW
from tests.support import wait_until
from tests.unit.node.conftest import Room

MIB = 1024**2


async def read(reply: Reply) -> bytes:
    assert reply.stream is not None
    return b"".join([chunk async for chunk in reply.stream])


def _call() -> calls.Call:
    return calls.Call(new_id("c"))


async def test_the_first_call_is_cold_and_the_next_warm(room: Room) -> None:
    function = room.function()
    first = await room.call(function, b"one")
    second = await room.call(function, b"two")
    assert (first.body, first.cold, second.body, second.cold) == (b"one", True, b"two", False)
    assert first.version == 1
    assert first.start_ms > 0
    assert second.start_ms == second.queue_ms == 0
    assert room.driver.counts.started == 1


@pytest.mark.parametrize("size", [0, 1, INLINE_MAX, INLINE_MAX + 1, WINDOW + 1, 3 * MIB])
async def test_bodies_of_every_size_come_back_whole(room: Room, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    reply = await room.call(room.function(), body[:size])
    whole = reply.body if reply.stream is None else await read(reply)
    assert whole == body[:size]


async def test_errors_keep_kind_message_hint_and_traceback(room: Room) -> None:
    async def fail(call: Call) -> Answer:
        kind = call.body.decode()
        raise Fail(kind, "KeyError", "'id'", traceback="line 1", hint="give it an id", status=400)

    room.script.on_call = fail
    function = room.function()
    with pytest.raises(HandlerRaised, match="KeyError: 'id'") as raised:
        await room.call(function, b"raised")
    assert raised.value.extra["traceback"] == "line 1"
    with pytest.raises(BadRequest) as caller:
        await room.call(function, b"caller")
    assert (caller.value.hint, caller.value.fault) == ("give it an id", "caller")
    with pytest.raises(BadReply):
        await room.call(function, b"reply")
    assert room.driver.counts.started == 1, "an error of the handler must not cost an instance"


async def test_a_deadline_answers_at_once_and_frees_the_slot(room: Room) -> None:
    room.script.hang_on_calls = frozenset({1})
    function = room.function(timeout_s=0.05)
    with pytest.raises(DeadlineExceeded, match=r"timeout of 0\.05 s"):
        await room.call(function)
    assert (await room.call(function, b"next")).body == b"next"


async def test_a_lone_sync_call_past_its_deadline_is_killed_and_replaced(room: Room) -> None:
    room.script.mode, room.script.deaf, room.script.hang_on_calls = "sync", True, frozenset({1})
    function = room.function(timeout_s=0.3)
    with pytest.raises(DeadlineExceeded):
        await room.call(function)
    assert (await room.call(function, b"next")).body == b"next"
    assert room.driver.counts.started == 1, "the supervisor forks a new child: no new container"
    assert room.pool(function).failures == 0


async def test_a_threaded_call_past_its_deadline_lets_the_others_end_first(room: Room) -> None:
    release = asyncio.Event()

    async def wait(call: Call) -> Answer:
        await (asyncio.Event() if call.body == b"hang" else release).wait()
        return b"done"

    room.script.on_call, room.script.mode, room.script.deaf = wait, "threads", True
    short = room.function(concurrency=2, timeout_s=0.3)
    hanging = asyncio.create_task(room.call(short, b"hang"))
    await wait_until(lambda: room.pool(short).in_flight == 1, 5, "it runs")
    instance = room.pool(short).take()
    assert instance is not None
    loop = asyncio.get_running_loop()
    other = instance.begin(_call(), loop.create_future(), loop.time(), 30_000).future
    with pytest.raises(DeadlineExceeded):
        await hanging
    assert room.pool(short).free == 0, "an instance with an overdue call takes no more"
    release.set()
    assert (await other).body == b"done"
    assert (await room.call(short)).body == b"done"
    assert room.driver.counts.started == 2


async def test_a_crash_fails_its_call_with_the_cause_and_the_next_is_served(room: Room) -> None:
    room.script.crash_on_calls = frozenset({1})
    function = room.function()
    with pytest.raises(InstanceDied, match="SIGSEGV"):
        await room.call(function)
    assert (await room.call(function, b"next")).body == b"next"
    assert room.driver.counts.started == 1


@pytest.mark.parametrize(
    ("exit", "words"),
    [
        (Exit(signal=9, oom=True), "out of memory"),
        (Exit(code=3), "exited with code 3"),
        (Exit(signal=9), r"9 \(SIGKILL\)"),
    ],
)
async def test_the_cause_of_death_is_in_words(room: Room, exit: Exit, words: str) -> None:
    async def die(_call: Call) -> Answer:
        raise Crash(exit)

    room.script.on_call = die
    with pytest.raises(InstanceDied, match=words):
        await room.call(room.function())


async def test_an_instance_killed_from_outside_is_replaced(room: Room) -> None:
    function = room.function()
    await room.call(function)
    await room.driver.kill(room.driver.running[0])
    await wait_until(lambda: not room.pool(function).instances, 5, "the pool notices")
    assert (await room.call(function, b"again")).body == b"again"
    assert room.driver.counts.started == 2


async def test_an_instance_that_dies_silently_fails_its_call(room: Room) -> None:
    async def die(_call: Call) -> Answer:
        raise Die

    room.script.on_call = die
    with pytest.raises(InstanceDied):
        await room.call(room.function())
    assert room.hooks.lost_reasons


async def test_a_start_that_fails_shows_its_error_and_backs_off_as_a_crash_loop(room: Room) -> None:
    room.script.init_error = "No module named 'nope'"
    function = room.function()
    for _ in range(2):
        with pytest.raises(StartFailed, match="No module named"):
            await room.call(function)
    for _ in range(20):
        with pytest.raises((StartFailed, CrashLoop)):
            await room.call(function)
    assert room.driver.counts.started <= 4, "a start that fails must not be spun"


async def test_a_child_that_dies_again_and_again_without_a_call_is_a_loop(room: Room) -> None:
    function = room.function()
    await room.call(function)
    pool = room.pool(function)
    for times in (1, 2, 3):
        await wait_until(lambda: pool.ready == 1, 5, "ready")
        room.driver.crash(room.driver.running[0])
        await wait_until(lambda: pool.failures == times, 5, "noticed")  # noqa: B023  awaited here
    await wait_until(lambda: not pool.instances, 5, "the instance is given up")
    assert room.driver.counts.started == 1


async def test_a_full_queue_is_429_with_retry_after(room: Room) -> None:
    room.script.hang_on_calls = frozenset({1})
    function = room.function(max=1, waiting=2, timeout_s=1)
    calls = [asyncio.create_task(room.call(function))]
    await wait_until(lambda: room.pool(function).in_flight == 1, 5, "one runs")
    calls += [asyncio.create_task(room.call(function)) for _ in range(2)]
    await wait_until(lambda: room.pool(function).waiting == 2, 5, "two wait")
    with pytest.raises(TooManyRequests) as refused:
        await room.call(function)
    assert refused.value.retry_after_s
    for task in calls:
        task.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_burst_on_zero_starts_no_more_than_max(room: Room) -> None:
    function = room.function(max=3)
    replies = await asyncio.gather(*(room.call(function, str(i).encode()) for i in range(100)))
    assert [reply.body for reply in replies] == [str(i).encode() for i in range(100)]
    assert room.driver.counts.peak <= 3


async def test_concurrency_shares_one_instance(room: Room) -> None:
    gate, inside = asyncio.Event(), 0

    async def meet(_call: Call) -> Answer:
        nonlocal inside
        inside += 1
        await gate.wait()
        return b"ok"

    room.script.on_call = meet
    function = room.function(concurrency=8, max=1)
    calls = [asyncio.create_task(room.call(function)) for _ in range(8)]
    await wait_until(lambda: inside == 8, 5, "all eight run at once")
    gate.set()
    assert [reply.body for reply in await asyncio.gather(*calls)] == [b"ok"] * 8
    assert room.driver.counts.started == 1


async def test_a_stream_waits_for_its_reader(room: Room) -> None:
    produced = 0

    async def flood(_call: Call) -> Answer:
        async def chunks() -> AsyncIterator[bytes]:
            nonlocal produced
            for _ in range(100):
                produced += 1
                yield b"x" * 65536

        return chunks()

    room.script.on_call = flood
    function = room.function()
    reply = await room.call(function)
    await wait_until(lambda: produced >= WINDOW // 65536, 5, "the window fills")
    for _ in range(20):
        await asyncio.sleep(0)
    assert produced <= WINDOW // 65536 + 2, "the handler ran ahead of its reader"
    assert len(await read(reply)) == 100 * 65536


async def test_a_caller_who_leaves_cancels_the_run(room: Room) -> None:
    cancelled = asyncio.Event()

    async def hang(_call: Call) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    room.script.on_call = hang
    function = room.function()
    call = asyncio.create_task(room.call(function))
    await wait_until(lambda: room.pool(function).in_flight == 1, 5, "it runs")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.wait_for(cancelled.wait(), 5)
    await wait_until(lambda: room.pool(function).free == 1, 5, "the slot is free again")


async def test_a_caller_who_leaves_the_queue_costs_nothing(room: Room) -> None:
    room.script.start_delay = 0.05
    function = room.function(max=1)
    calls = [asyncio.create_task(room.call(function, b"x")) for _ in range(4)]
    await wait_until(lambda: room.pool(function).waiting == 4, 5, "they wait")
    for call in calls[:3]:
        call.cancel()
    assert (await calls[3]).body == b"x"
    pool = room.pool(function)
    await wait_until(lambda: pool.free == 1 and pool.waiting == 0, 5, "everything is given back")


async def test_a_function_that_does_not_fit_is_no_room_not_a_hang(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faas.node.starts.ROOM_S", 0.05)
    with pytest.raises(NoRoom, match="8192 MiB"):
        await room.call(room.function(memory=8192 * MIB))


async def test_idle_instances_of_others_make_room(room: Room) -> None:
    big, other = room.function("big", memory=3072 * MIB), room.function("other", memory=2048 * MIB)
    await room.call(big)
    await room.call(other)
    assert not room.pool(big).instances, "the idle instance of the other function was evicted"
    assert room.starts.used == 2048 * MIB


async def test_busy_instances_are_not_evicted_and_the_waiter_gets_the_room_later(room: Room) -> None:
    gate = asyncio.Event()

    async def wait(call: Call) -> Answer:
        if call.body == b"hold":
            await gate.wait()
        return b"ok"

    room.script.on_call = wait
    big, other = room.function("big", memory=3072 * MIB), room.function("other", memory=2048 * MIB)
    holding = asyncio.create_task(room.call(big, b"hold"))
    await wait_until(lambda: room.pool(big).in_flight == 1, 5, "big runs")
    waiting = asyncio.create_task(room.call(other))
    await wait_until(lambda: room.pool(other).waiting == 1, 5, "other waits")
    gate.set()
    await holding
    room.reaper.expire()
    await room.starts.end(next(iter(room.pool(big).instances.values())))
    assert (await waiting).body == b"ok"


async def test_an_engine_that_fails_is_a_platform_error(room: Room) -> None:
    room.script.start_error = Unavailable("the engine does not answer")
    with pytest.raises(Unavailable, match="engine"):
        await room.call(room.function())
    room.script.start_error = None


async def test_draining_lets_calls_end_and_refuses_new_ones(room: Room) -> None:
    gate = asyncio.Event()

    async def wait(_call: Call) -> Answer:
        await gate.wait()
        return b"finished"

    room.script.on_call = wait
    function = room.function()
    running = asyncio.create_task(room.call(function))
    await wait_until(lambda: room.pool(function).in_flight == 1, 5, "it runs")
    draining = asyncio.create_task(room.dispatcher.drain(5))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="stopping"):
        await room.call(function)
    gate.set()
    assert (await running).body == b"finished"
    await draining
    assert room.driver.running == []
