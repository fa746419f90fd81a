"""Short ways to say what the tests of the queue say often."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from faas.ids import new_id
from faas.store import keys
from faas.store.queue import Attempt, Done, GiveBack, Input, Job, NewJob, Once, Queue, Retry, Turn, Want

A, B = "default/a", "default/b"


def new(function: str = A, body: bytes = b"{}", **more: Any) -> NewJob:
    return NewJob(id=new_id("inv"), function=function, input=Input(target=function, body=body), **more)


def once(key: str, body: bytes = b"{}", caller: str = "me", function: str = A) -> Once:
    return Once.of(function, caller, key, body)


def done(job: Job, **more: Any) -> Done:
    return Done(id=job.id, take=job.take, **more)


def retry(job: Job, after_s: float = 0.0, cause: str = "handler_raised") -> Retry:
    record = Attempt(number=job.attempt, node="n1", started_ms=1, ended_ms=2, cause=cause)
    return Retry(id=job.id, take=job.take, after_s=after_s, cause=cause, attempt=record)


def back(job: Job) -> GiveBack:
    return GiveBack(id=job.id, take=job.take)


async def take(queue: Queue, most: int = 64, node: str = "n1", **more: Any) -> Turn:
    return await queue.take(Want(node=node, most=most, **{"each": most, **more}))


async def finish_all(queue: Queue, node: str = "n1") -> list[Job]:
    """Take and finish until nothing waits; the jobs in the order they came."""
    seen: list[Job] = []
    turn = await take(queue, node=node)
    while turn.jobs:
        seen += turn.jobs
        outcomes = [done(job) for job in turn.jobs]
        turn = await queue.turn(outcomes, Want(node=node, each=64))
        assert not turn.lost
    return seen


async def now_s(redis: Redis) -> float:
    seconds, micros = await redis.time()
    return float(seconds) + micros / 1e6


async def immortal(redis: Redis) -> list[str]:
    """Keys of the queue that will not go away by themselves, `notice` aside."""
    found = [key async for key in redis.scan_iter(f"{keys.QUEUE}*", count=1000)]
    async with redis.pipeline(transaction=False) as pipe:
        for key in found:
            pipe.pttl(key)
        ttls = await pipe.execute()
    return sorted(key.decode() for key, ttl in zip(found, ttls, strict=True) if ttl == -1)
