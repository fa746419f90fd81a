"""Listing by function, state and time; queues in numbers."""

from __future__ import annotations

from redis.asyncio import Redis

from faas.store.queue import Depth, Limits, Queue, Reads
from tests.integration.queue.jobs import A, B, done, finish_all, new, now_s, retry, take


async def test_listing_by_function_state_and_time(queue: Queue, reads: Reads, redis: Redis) -> None:
    jobs = {name: new() for name in ("ok", "bad", "dead", "retried", "running")}
    await queue.enqueue([*jobs.values()])
    ok, bad, dead, retried, _ = (await take(queue)).jobs
    await queue.turn([done(ok), done(bad, state="failed"), done(dead, state="dead"), retry(retried, 60)])
    high, low, other = new(priority="high"), new(priority="low"), new(B)
    await queue.enqueue([low, high, other])
    expected = {
        jobs["ok"].id: "succeeded",
        jobs["bad"].id: "failed",
        jobs["dead"].id: "dead",
        jobs["retried"].id: "delayed",
        jobs["running"].id: "running",
        high.id: "waiting",
        low.id: "waiting",
    }
    assert {info.id: info.state for info in await reads.find([A])} == expected
    assert [info.id for info in await reads.find([A], ["waiting"])] == [high.id, low.id]
    assert [info.id for info in await reads.find([A], ["waiting"], limit=1)] == [high.id]
    assert {info.id for info in await reads.find([A, B], ["waiting"])} == {high.id, low.id, other.id}
    assert [info.id for info in await reads.find([A], ["dead", "failed"], limit=9)] != []
    now = int(await now_s(redis) * 1000)
    assert len(await reads.find([A], until_ms=now)) == 6
    assert [info.id for info in await reads.find([A], since_ms=now + 30_000)] == [jobs["retried"].id]
    assert await reads.find([A], ["waiting", "succeeded"], until_ms=now - 3_600_000) == []
    assert await reads.find([]) == []


async def test_numbers(queue: Queue, reads: Reads) -> None:
    await queue.enqueue([new(), new(), new(delay_s=60)])
    (job,) = (await take(queue, 1)).jobs
    await queue.turn([done(job, state="dead")])
    await take(queue, 1)
    await queue.enqueue([new(priority="low")])
    depth = (await reads.depth([A, B]))[A]
    assert (depth.waiting, depth.delayed, depth.running, depth.dead, depth.unfinished) == (1, 1, 1, 1, 3)
    info = (await reads.find([A], ["waiting"]))[0]
    assert abs(depth.oldest_ms - info.accepted_ms) <= 1
    assert (await reads.depth([B]))[B] == Depth(waiting=0, delayed=0, running=0, dead=0, unfinished=0, bytes=0)


async def test_lists_of_ended_jobs_are_bounded(redis: Redis, reads: Reads) -> None:
    queue = Queue(redis, Limits(listed=10))
    await queue.enqueue([new() for _ in range(50)])
    assert len(await finish_all(queue)) == 50
    assert len(await reads.find([A], ["succeeded"])) == 10
