"""Each move by itself: what it does, what it answers, and that a repeat is harmless."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from faas.errors import Invalid, TooLarge, TooManyRequests, Unavailable
from faas.store import keys
from faas.store.queue import Done, Enqueued, Input, Limits, NewJob, Queue, Reads, Refused, Result, Want
from faas.store.queue.queue import MOST, STEPS_BYTES_MAX
from tests.integration.queue.jobs import A, B, back, done, finish_all, immortal, new, now_s, once, retry, take
from tests.support import wait_until


async def test_a_job_from_start_to_end(queue: Queue, reads: Reads, redis: Redis) -> None:
    job = new(body=b"\x00\xff")
    assert await queue.enqueue([job]) == [Enqueued(job.id)]
    assert await reads.ready() == [A]
    (got,) = (await take(queue)).jobs
    assert (got.id, got.take, got.attempt, got.input) == (job.id, 1, 1, job.input)
    info = await reads.get(job.id)
    assert info is not None
    assert (info.state, info.node, info.attempt) == ("running", "n1", 1)
    assert info.began_ms >= info.accepted_ms > 0

    result = Result(status=200, headers=((b"a", b"b"),), body=b"42")
    turn = await queue.turn([done(got, result=result)])
    assert (turn.jobs, turn.lost) == ((), ())
    info = await reads.get(job.id)
    assert info is not None
    assert info.state == "succeeded"
    assert info.ended_ms >= info.began_ms
    assert await reads.result(job.id) == result
    assert await reads.input(job.id) is None
    await queue.reap()
    assert await immortal(redis) == []


@pytest.mark.parametrize("size", [0, 40, 100_000])
async def test_results_of_any_size(queue: Queue, reads: Reads, size: int) -> None:
    await queue.enqueue([new()])
    (job,) = (await take(queue)).jobs
    result = Result(status=200, body=b"x" * size)
    await queue.turn([done(job, result=result)])
    assert await reads.result(job.id) == result


async def test_a_repeat_of_any_move_does_nothing(queue: Queue, reads: Reads) -> None:
    job = new()
    await queue.enqueue([job])
    assert await queue.enqueue([job]) == [Enqueued(job.id, duplicate=True)]
    (got,) = (await take(queue)).jobs
    assert (await take(queue)).jobs == ()
    assert (await queue.turn([done(got)])).lost == ()
    assert (await queue.turn([done(got), retry(got), back(got)])).lost == (job.id,) * 3
    assert (await reads.depth([A]))[A].unfinished == 0
    info = await reads.get(job.id)
    assert info is not None
    assert info.state == "succeeded"


async def test_an_outcome_under_an_old_lease_is_lost(queue: Queue, reads: Reads) -> None:
    await queue.enqueue([new()])
    (first,) = (await take(queue, node="n1")).jobs
    assert (await queue.node_lost("n1")).lost == 1
    (second,) = (await take(queue, node="n2")).jobs
    assert (second.take, second.attempt) == (2, 2)
    assert (await queue.turn([done(first, state="failed")])).lost == (first.id,)
    assert (await queue.renew("n1", [(first.id, first.take)]))[first.id].held is False
    assert (await queue.turn([done(second)])).lost == ()
    (record,) = await reads.history(first.id)
    assert (record.cause, record.node, record.number) == ("node_lost", "n1", 1)


async def test_what_had_not_begun_goes_back_to_its_place(queue: Queue) -> None:
    first, second = new(), new()
    await queue.enqueue([first, second])
    (got,) = (await take(queue, 1)).jobs
    assert got.id == first.id
    turn = await queue.turn([back(got)], Want(node="n1", most=1, each=1))
    assert [(job.id, job.attempt, job.take) for job in turn.jobs] == [(first.id, 1, 2)]


async def test_retries_until_none_is_left(queue: Queue, reads: Reads) -> None:
    job = new(attempts=2)
    await queue.enqueue([job])
    (got,) = (await take(queue)).jobs
    turn = await queue.turn([retry(got, 0.05)])
    assert turn.next_due_s is not None
    assert 0 < turn.next_due_s <= 0.05
    info = await reads.get(job.id)
    assert info is not None
    assert info.state == "delayed"
    assert info.due_ms > 0
    turn = await wait_until(lambda: _some(queue), what="the retry is due")
    (again,) = turn.jobs
    assert again.attempt == 2
    await queue.turn([retry(again)])
    info = await reads.get(job.id)
    assert info is not None
    assert (info.state, info.cause) == ("dead", "handler_raised")
    assert [record.number for record in await reads.history(job.id)] == [1, 2]
    assert await reads.input(job.id) == job.input


async def _some(queue: Queue) -> object:
    turn = await take(queue)
    return turn if turn.jobs else None


async def test_attempts_that_are_remembered_are_bounded(redis: Redis, reads: Reads) -> None:
    queue = Queue(redis, Limits(history=3))
    job = new(attempts=10)
    await queue.enqueue([job])
    for _ in range(6):
        (got,) = (await take(queue)).jobs
        await queue.turn([retry(got)])
    assert [record.number for record in await reads.history(job.id)] == [4, 5, 6]


async def test_no_retry_beyond_max_age(queue: Queue, reads: Reads) -> None:
    job = new(max_age_s=60.0)
    await queue.enqueue([job])
    (got,) = (await take(queue)).jobs
    await queue.turn([retry(got, 61.0)])
    info = await reads.get(job.id)
    assert info is not None
    assert info.state == "dead"
    assert info.cause == "too old for another attempt: handler_raised"


@pytest.mark.parametrize("by", ["take", "reap"])
async def test_too_old_is_dead_and_never_runs(queue: Queue, reads: Reads, redis: Redis, by: str) -> None:
    old = [new(max_age_s=0.001) for _ in range(3)]
    await queue.enqueue([*old, new(max_age_s=60)])
    await wait_until(lambda: _passed(reads, redis, old[0].id), what="max_age has passed")
    if by == "reap":
        assert (await queue.reap()).old == 3
    assert [job.id for job in (await take(queue)).jobs if job.id in {o.id for o in old}] == []
    infos = await reads.find([A], ["dead"])
    assert {info.id for info in infos} == {job.id for job in old}
    assert all("max_age" in info.cause for info in infos)
    assert (await reads.depth([A]))[A].dead == 3


async def _passed(reads: Reads, redis: Redis, id: str) -> bool:
    info = await reads.get(id)
    assert info is not None
    return await now_s(redis) * 1000 > info.expires_ms + 1


async def test_delays_and_fixed_times(queue: Queue, reads: Reads, redis: Redis) -> None:
    soon, later = new(delay_s=0.03), new(at=await now_s(redis) + 3600)
    past = new(at=1.0)
    await queue.enqueue([soon, later, past])
    assert [job.id for job in (await take(queue)).jobs] == [past.id]
    turn = await wait_until(lambda: _some(queue), what="the delay is over")
    assert [job.id for job in turn.jobs] == [soon.id]
    assert 3500 < turn.next_due_s < 3601
    info = await reads.get(later.id)
    assert info is not None
    # Its age counts from when it may begin.
    assert info.expires_ms - info.due_ms == 6 * 3600 * 1000


async def test_leases_run_out(queue: Queue) -> None:
    await queue.enqueue([new(), new()])
    kept, lost = (await take(queue, lease_s=0.05)).jobs
    assert (await queue.renew("n1", [(kept.id, kept.take)], 60.0))[kept.id].held
    assert (await queue.reap()).lost == 0
    await wait_until(lambda: _reaped(queue), what="the lease runs out")
    (again,) = (await take(queue, node="n2")).jobs
    assert (again.id, again.attempt) == (lost.id, 2)


async def _reaped(queue: Queue) -> bool:
    return (await queue.reap()).lost == 1


async def test_a_job_that_kills_its_nodes_is_dead_in_the_end(queue: Queue, reads: Reads) -> None:
    job = new(attempts=2)
    await queue.enqueue([job])
    for node in ("n1", "n2"):
        assert len((await take(queue, node=node)).jobs) == 1
        assert (await queue.node_lost(node)).lost == 1
    info = await reads.get(job.id)
    assert info is not None
    assert info.state == "dead"
    assert info.cause.startswith("node_lost")
    assert [record.node for record in await reads.history(job.id)] == ["n1", "n2"]


async def test_cancel_in_every_state(queue: Queue, reads: Reads) -> None:
    waiting, delayed, running = new(B), new(B, delay_s=60), new(A)
    await queue.enqueue([waiting, delayed, running])
    (got,) = (await take(queue, rooms={B: 0})).jobs
    assert await queue.cancel([waiting.id, delayed.id, running.id, "inv-none"]) == {
        waiting.id: "cancelled",
        delayed.id: "cancelled",
        running.id: "asked",
        "inv-none": "unknown",
    }
    assert (await queue.renew("n1", [(got.id, got.take)]))[got.id].cancel
    # A job that somebody wants to end is not tried again, whatever becomes of this attempt.
    await queue.turn([retry(got)])
    ids = [waiting.id, delayed.id, running.id]
    assert [info and info.state for info in await reads.get_many(ids)] == ["cancelled"] * 3
    assert await queue.cancel(ids) == dict.fromkeys(ids, "cancelled")
    assert (await take(queue)).jobs == ()


@pytest.mark.parametrize("how", ["back", "lost"])
async def test_a_cancelled_job_does_not_come_back(queue: Queue, reads: Reads, how: str) -> None:
    await queue.enqueue([new()])
    (got,) = (await take(queue)).jobs
    await queue.cancel([got.id])
    await (queue.turn([back(got)]) if how == "back" else queue.node_lost("n1"))
    info = await reads.get(got.id)
    assert info is not None
    assert (info.state, (await reads.depth([A]))[A].unfinished) == ("cancelled", 0)


async def test_dead_letters_redriven_and_purged(queue: Queue, reads: Reads, redis: Redis) -> None:
    jobs = [new(notify=True, once=once(str(i))) for i in range(3)]
    await queue.enqueue(jobs)
    taken = (await take(queue)).jobs
    await queue.turn([done(job, state="dead", cause="x" * 1000, result=Result(status=500)) for job in taken])
    assert sorted(await queue.notices()) == sorted(job.id for job in jobs)
    first, second, third = (job.id for job in jobs)
    assert await queue.again([first, "inv-none"]) == {first: "waiting", "inv-none": "unknown"}
    assert await queue.again([first]) == {first: "waiting"}
    assert await queue.purge([second, first]) == {second: "purged", first: "waiting"}
    assert await reads.result(first) is None
    (got,) = (await take(queue)).jobs
    assert (got.id, got.attempt, got.take, got.input) == (first, 1, 2, jobs[0].input)
    await queue.turn([done(got)])
    assert await queue.again([first]) == {first: "succeeded"}
    assert sorted(await queue.notices()) == sorted([first, third])
    await queue.noticed([first, third])
    assert await reads.get(second) is None
    await queue.purge([first, third])
    await queue.reap()
    found = [key async for key in redis.scan_iter(f"{keys.QUEUE}*")]
    assert [key for key in found if b":c:" not in key] == []


async def test_bounds_of_a_queue(redis: Redis) -> None:
    queue = Queue(redis, Limits(length=3, bytes=10_000))
    replies = await queue.enqueue([new() for _ in range(5)])
    assert [isinstance(reply, Enqueued) for reply in replies] == [True] * 3 + [False] * 2
    assert isinstance(replies[3], Refused)
    assert isinstance(replies[3].error, TooManyRequests)
    assert replies[3].error.retry_after_s
    assert "limit is 3" in replies[3].error.message
    (big,) = await queue.enqueue([new(B, body=bytes(10_001))])
    assert isinstance(big, Refused)
    assert "bytes" in big.error.message
    assert isinstance((await queue.enqueue([new(B)]))[0], Enqueued)
    await finish_all(queue)
    assert isinstance((await queue.enqueue([new()]))[0], Enqueued)


async def test_a_take_is_bounded_by_bytes_and_a_large_job_goes_alone(queue: Queue) -> None:
    await queue.enqueue([new(body=bytes(3_000)) for _ in range(3)])
    turn = await take(queue, most_bytes=1_000)
    assert (len(turn.jobs), turn.more) == (1, True)
    turn = await take(queue, most_bytes=7_000)
    assert (len(turn.jobs), turn.more) == (2, False)


async def test_steps_are_kept_once_and_under_the_lease_only(queue: Queue, redis: Redis) -> None:
    await queue.enqueue([new()])
    (job,) = (await take(queue)).jobs
    assert await queue.keep_step(job.id, job.take, "charge", b"1") == b"1"
    assert await queue.keep_step(job.id, job.take, "charge", b"2") == b"1"
    assert await queue.keep_step(job.id, job.take + 1, "other", b"2") is None
    with pytest.raises(TooLarge, match="bytes"):
        await queue.keep_step(job.id, job.take, "big", bytes(STEPS_BYTES_MAX))
    assert await queue.steps(job.id) == {"charge": b"1"}
    await queue.turn([retry(job)])
    (job,) = (await take(queue)).jobs
    assert await queue.steps(job.id) == {"charge": b"1"}
    await queue.turn([done(job)])
    await queue.reap()
    assert await immortal(redis) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"attempts": 0},
        {"max_age_s": 0.0},
        {"max_age_s": float("nan")},
        {"delay_s": -1.0},
        {"delay_s": float("inf")},
        {"at": 1e15},
        {"at": float("nan")},
    ],
)
async def test_jobs_out_of_bounds_are_refused_by_name(queue: Queue, bad: dict[str, Any]) -> None:
    job = new(**bad)
    with pytest.raises(Invalid, match=job.id):
        await queue.enqueue([job])


async def test_batches_out_of_bounds_are_refused(queue: Queue) -> None:
    with pytest.raises(Invalid, match=str(MOST)):
        await queue.enqueue([new() for _ in range(MOST + 1)])
    with pytest.raises(Invalid, match=str(MOST)):
        await take(queue, MOST + 1)
    assert await queue.enqueue([]) == []
    assert (await queue.turn([])).jobs == ()


async def test_the_largest_batch_there_and_back(queue: Queue) -> None:
    await queue.enqueue([new() for _ in range(MOST)])
    turn = await take(queue, MOST)
    assert len(turn.jobs) == MOST
    assert all((await queue.renew("n1", [(job.id, job.take) for job in turn.jobs])).values())
    assert (await queue.turn([done(job) for job in turn.jobs])).lost == ()


async def test_names_of_any_kind(queue: Queue, reads: Reads) -> None:
    function = f"{'a' * 63}/{'b' * 63}"
    job = NewJob(id="x", function=function, input=Input(target="é" * 300, query="?", extra={"a": [1, None]}))
    await queue.enqueue([job])
    (got,) = (await take(queue)).jobs
    assert (got.function, got.input) == (function, job.input)
    await queue.turn([Done(id=got.id, take=got.take, cause="ü" * 400)])
    info = await reads.get("x")
    assert info is not None
    assert info.cause == "ü" * 300


async def test_a_full_redis_refuses_jobs_and_finishes_the_ones_it_has(queue: Queue, redis: Redis) -> None:
    await queue.enqueue([new() for _ in range(3)])
    (one, *_) = (await take(queue, 1)).jobs
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable, match="full"):
            await queue.enqueue([new()])
        turn = await queue.turn([done(one)], Want(node="n1", each=9))
        assert (len(turn.jobs), turn.lost) == (2, ())
    finally:
        await redis.config_set("maxmemory", 0)
