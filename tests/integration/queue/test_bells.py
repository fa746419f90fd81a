"""Bells that ring, waiters that wake, and the batch writer in front of it all."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from faas.errors import Invalid, Unavailable
from faas.store.connection import connect
from faas.store.embedded import EmbeddedRedis
from faas.store.queue import Bells, Enqueued, Enqueuer, Queue, Reads
from tests.integration.queue.jobs import A, B, done, new, take
from tests.support import wait_until


class Heard:
    def __init__(self) -> None:
        self.work: list[str] = []
        self.cancels: list[str] = []


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def bells(redis: Redis, queue_url: str, heard: Heard) -> AsyncIterator[Bells]:
    async with Bells(
        redis, lambda: connect(queue_url, blocking=True), heard.work.append, heard.cancels.append
    ) as bells:
        await asyncio.wait_for(bells.listening(), 10)
        yield bells


async def test_work_rings_once_a_function_that_becomes_ready(queue: Queue, bells: Bells, heard: Heard) -> None:
    await queue.enqueue([new(A), new(A), new(B)])
    await queue.enqueue([new(A)])
    await wait_until(lambda: len(heard.work) >= 3)
    await take(queue, rooms={B: 0})
    await queue.enqueue([new(A)])
    await wait_until(lambda: len(heard.work) >= 4)
    assert sorted(heard.work) == ["", A, A, B]


async def test_an_earlier_delay_rings_too(queue: Queue, bells: Bells, heard: Heard) -> None:
    await queue.enqueue([new(A, delay_s=60)])
    await queue.enqueue([new(A, delay_s=90)])
    await queue.enqueue([new(A, delay_s=30)])
    await wait_until(lambda: len(heard.work) >= 3)
    assert heard.work == ["", A, A]


async def test_waiting_for_an_end(queue: Queue, bells: Bells) -> None:
    job = new()
    await queue.enqueue([job])
    waiters = [asyncio.create_task(bells.wait(job.id, 30)) for _ in range(3)]
    info = await bells.wait(job.id, 0.01)
    assert info is not None
    assert info.state == "waiting"
    (got,) = (await take(queue)).jobs
    await queue.turn([done(got)])
    for waiter in waiters:
        info = await asyncio.wait_for(waiter, 5)
        assert info is not None
        assert info.state == "succeeded"
    assert await bells.wait(job.id, 30) is not None
    assert await bells.wait("inv-none", 30) is None
    assert bells._waiters == {}


async def test_a_cancel_of_a_running_job_rings(queue: Queue, bells: Bells, heard: Heard) -> None:
    await queue.enqueue([new()])
    (got,) = (await take(queue)).jobs
    await queue.cancel([got.id])
    await wait_until(lambda: heard.cancels == [got.id])


async def test_bells_come_back_after_redis_died(queue_binary: Path, tmp_path: Path, heard: Heard) -> None:
    async with EmbeddedRedis(tmp_path, queue_binary) as server:
        redis = await connect(server.url)
        async with Bells(redis, lambda: connect(server.url, blocking=True), heard.work.append) as bells:
            await asyncio.wait_for(bells.listening(), 10)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            # "" twice: something may have been missed in between.
            await wait_until(lambda: heard.work == ["", ""], 20, "the bells are heard again")
            await Queue(redis).enqueue([new()])
            await wait_until(lambda: heard.work[2:] == [A])
        await redis.aclose()


async def test_the_batch_writer_answers_each(queue: Queue, reads: Reads) -> None:
    jobs = [new() for _ in range(1_000)]
    async with Enqueuer(queue) as enqueuer:
        replies = await asyncio.gather(*(enqueuer.enqueue(job) for job in jobs))
    assert replies == [Enqueued(job.id) for job in jobs]
    assert (await reads.depth([A]))[A].waiting == 1_000


async def test_a_bad_job_does_not_take_its_neighbours_down(queue: Queue) -> None:
    good, bad, odd = new(), new(attempts=0), new(body="no bytes")  # type: ignore[arg-type]
    async with Enqueuer(queue) as enqueuer:
        first, second, third = await asyncio.gather(
            *(enqueuer.enqueue(job) for job in (good, bad, odd)), return_exceptions=True
        )
        assert first == Enqueued(good.id)
        assert isinstance(second, Invalid)
        assert third == Enqueued(odd.id)


async def test_a_sender_that_gives_up_does_not_disturb_the_batch(queue: Queue, reads: Reads) -> None:
    left, stays = new(), new()
    async with Enqueuer(queue) as enqueuer:
        task = asyncio.create_task(enqueuer.enqueue(left))
        other = asyncio.create_task(enqueuer.enqueue(stays))
        await asyncio.sleep(0)
        task.cancel()
        assert await other == Enqueued(stays.id)
    assert [info is not None for info in await reads.get_many([left.id, stays.id])] == [True, True]


async def test_closing_writes_what_was_submitted_and_refuses_the_rest(queue: Queue, reads: Reads) -> None:
    enqueuer = Enqueuer(queue)
    async with enqueuer:
        tasks = [asyncio.create_task(enqueuer.enqueue(new())) for _ in range(500)]
        await asyncio.sleep(0)
    assert all(isinstance(reply, Enqueued) for reply in await asyncio.gather(*tasks))
    with pytest.raises(Unavailable, match="stopping"):
        await enqueuer.enqueue(new())
    assert (await reads.depth([A]))[A].waiting == 500


async def test_without_redis_each_sender_is_told(tmp_path: Path, queue_binary: Path) -> None:
    async with EmbeddedRedis(tmp_path, queue_binary) as server:
        redis = await connect(server.url)
    async with Enqueuer(Queue(redis)) as enqueuer:
        replies = await asyncio.gather(*(enqueuer.enqueue(new()) for _ in range(5)), return_exceptions=True)
    assert [type(reply) for reply in replies] == [Unavailable] * 5
    assert len({id(reply) for reply in replies}) == 5
    await redis.aclose()
