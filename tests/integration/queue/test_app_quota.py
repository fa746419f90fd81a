"""The unfinished jobs of an app, counted exactly over its functions, whatever ends them."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from faas.store import keys
from faas.store.queue import Enqueued, Queue, Refused
from tests.integration.queue.audit import audit
from tests.integration.queue.jobs import A, B, done, finish_all, new, take


async def unfinished(redis: Redis, app: str = "default") -> int:
    return int(await redis.get(keys.unfinished(app)) or 0)


async def test_it_is_exact_over_functions_batches_and_senders(queue: Queue, redis: Redis) -> None:
    batches = [[new(function, app_most=10) for function in (A, B, A)] for _ in range(6)]
    answers = [one for batch in await asyncio.gather(*map(queue.enqueue, batches)) for one in batch]
    assert sum(isinstance(one, Enqueued) for one in answers) == 10
    refused = next(one for one in answers if isinstance(one, Refused))
    assert "app default has 10 unfinished background calls; its quota is 10" in refused.error.message
    assert refused.error.status == 429
    assert isinstance((await queue.enqueue([new("other/a", app_most=10)]))[0], Enqueued)
    assert isinstance((await queue.enqueue([new(A)]))[0], Enqueued), "without a quota there is none"
    assert (await unfinished(redis), await unfinished(redis, "other")) == (11, 1)
    await audit(redis)


async def test_every_end_makes_room(queue: Queue, redis: Redis) -> None:
    first, second, third = (new(A, app_most=3) for _ in range(3))
    await queue.enqueue([first, second, third])
    assert isinstance((await queue.enqueue([first]))[0], Enqueued), "a repeat is no other job"
    (job,) = (await take(queue, most=1)).jobs
    assert await unfinished(redis) == 3, "what runs is unfinished"
    await queue.turn([done(job)])
    assert await unfinished(redis) == 2
    waiting = next(one for one in (first, second, third) if one.id != job.id)
    await queue.cancel([waiting.id])
    assert await unfinished(redis) == 1
    assert isinstance((await queue.enqueue([new(B, app_most=2)]))[0], Enqueued)
    assert isinstance((await queue.enqueue([new(B, app_most=2)]))[0], Refused)
    await finish_all(queue)
    assert await redis.exists(keys.unfinished("default")) == 0
    await audit(redis)
