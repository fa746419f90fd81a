"""A backlog that is done and expired leaves nothing: no key, no memory."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from faas.store import keys
from faas.store.queue import MOST, Limits, Queue, Result, Want
from tests.integration.queue.jobs import done, new, once, retry, take
from tests.support import wait_until

JOBS = 20_000


@pytest.mark.slow
async def test_memory_is_back_after_a_backlog(redis: Redis) -> None:
    queue = Queue(redis, Limits(keep_s=0.5, dead_s=0.5, idle_s=0.5))
    await queue.enqueue([new(max_age_s=1)])  # scripts and buffers are not the backlog's
    await _work_off(queue)
    await wait_until(lambda: _gone(redis), what="the first job is forgotten")
    before = await _used(redis)

    for start in range(0, JOBS, MOST):
        batch = [new(max_age_s=120, once=once(str(start + i)) if i % 4 == 0 else None) for i in range(MOST)]
        await queue.enqueue(batch)
    peak = await _used(redis)
    assert peak - before > JOBS * 300
    await _work_off(queue)
    await wait_until(lambda: _gone(redis), 30, "everything is forgotten")

    async def small() -> bool:
        # Not all of it: the tables that held the keys shrink when the server finds time, and are used again.
        return await _used(redis) - before < 0.15 * (peak - before)

    await wait_until(small, 30, "used_memory is back")


async def _work_off(queue: Queue) -> None:
    """Most succeed, some with large results; some are tried again, die, or are cancelled."""
    turn = await take(queue)
    while turn.jobs:
        outcomes = [
            retry(job)
            if i % 16 == 0
            else done(job, state="dead")
            if i % 16 == 1
            else done(job, result=Result(status=200, body=b"x" * (200 * (i % 2))))
            for i, job in enumerate(turn.jobs)
        ]
        turn = await queue.turn(outcomes, Want(node="n1", each=64))
    await queue.reap()


async def _used(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


async def _gone(redis: Redis) -> bool:
    return not [key async for key in redis.scan_iter(f"{keys.QUEUE}*", count=10_000)]
