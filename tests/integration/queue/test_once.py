"""Idempotency keys: one execution for all senders, asynchronous and synchronous ones alike."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from faas.errors import Invalid
from faas.store.queue import Claims, Enqueued, Limits, Once, Queue, Reads, Refused, Result
from tests.integration.queue.jobs import A, B, done, immortal, new, once, take
from tests.support import wait_until


async def test_the_first_ones_id_for_all(queue: Queue, reads: Reads) -> None:
    first, again, other = new(once=once("k")), new(once=once("k")), new(once=once("k", b"other"))
    assert await queue.enqueue([first, again]) == [Enqueued(first.id), Enqueued(first.id, duplicate=True)]
    (refused,) = await queue.enqueue([other])
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, Invalid)
    assert first.id in refused.error.message
    (job,) = (await take(queue)).jobs
    await queue.turn([done(job, result=Result(status=200, body=b"once"))])
    assert await queue.enqueue([new(once=once("k"))]) == [Enqueued(first.id, duplicate=True)]
    assert (await take(queue)).jobs == ()
    result = await reads.result(first.id)
    assert result is not None
    assert result.body == b"once"


async def test_keys_are_scoped_to_function_and_caller(queue: Queue) -> None:
    jobs = [
        new(once=once("k")),
        new(once=once("k", caller="you")),
        new(B, once=once("k", function=B)),
        new(once=once("k2")),
    ]
    assert [reply.id for reply in await queue.enqueue(jobs)] == [job.id for job in jobs]


async def test_a_race_of_many_senders_has_one_winner(queue: Queue) -> None:
    jobs = [new(once=once("k")) for _ in range(50)]
    replies = await asyncio.gather(*(queue.enqueue([job]) for job in jobs))
    assert len({reply[0].id for reply in replies}) == 1
    assert sum(isinstance(reply[0], Enqueued) and not reply[0].duplicate for reply in replies) == 1
    assert len((await take(queue)).jobs) == 1


async def test_a_refused_job_leaves_its_key_free(redis: Redis) -> None:
    assert isinstance((await Queue(redis, Limits(length=0)).enqueue([new(once=once("k"))]))[0], Refused)
    job = new(once=once("k"))
    assert await Queue(redis).enqueue([job]) == [Enqueued(job.id)]


async def test_sync_calls_share_the_keys(queue: Queue, reads: Reads, redis: Redis) -> None:
    claims = Claims(redis)
    assert await claims.claim(once("k"), "call-1", 60) == ("new", "call-1")
    assert await claims.claim(once("k"), "call-2", 60) == ("busy", "call-1")
    assert await claims.claim(once("k", b"other"), "call-3", 60) == ("conflict", "call-1")
    assert await queue.enqueue([new(once=once("k"))]) == [Enqueued("call-1", duplicate=True)]
    result = Result(status=201, body=b"x" * 100)
    assert await claims.settle(once("k"), "call-1", A, result, began_ms=5)
    assert not await claims.settle(once("k"), "call-1", A, result, began_ms=5)
    assert await claims.claim(once("k"), "call-4", 60) == ("done", "call-1")
    assert await reads.result("call-1") == result
    info = await reads.get("call-1")
    assert info is not None
    assert (info.state, info.function) == ("succeeded", A)

    job = new(once=once("k2"))
    await queue.enqueue([job])
    assert await claims.claim(once("k2"), "call-5", 60) == ("job", job.id)
    await queue.cancel([job.id])
    assert await immortal(redis) == []


async def test_a_dropped_claim_and_one_that_ran_out_are_free_again(redis: Redis) -> None:
    claims = Claims(redis)
    await claims.claim(once("k"), "call-1", 60)
    assert await claims.drop(once("k"), "call-1")
    assert not await claims.drop(once("k"), "call-1")
    assert await claims.claim(once("k"), "call-2", 0.01) == ("new", "call-2")

    async def free() -> bool:
        return await claims.claim(once("k"), "call-3", 60) == ("new", "call-3")

    await wait_until(free, what="the claim runs out")
    assert not await claims.settle(once("k"), "call-2", A, Result(status=200), began_ms=1)


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_keys_have_a_length(key: str) -> None:
    with pytest.raises(Invalid, match="255"):
        Once.of(A, "me", key)


def test_parts_of_a_request_are_not_glued_together() -> None:
    assert Once.of("a/b", "c", "k", b"ab", b"c") != Once.of("a/b", "c", "k", b"a", b"bc")
    assert Once.of("a/b", "c", "k") != Once.of("a/bc", "", "k")
