"""Who is served when: fair between functions, priorities that starve nobody, and what a node allows."""

from __future__ import annotations

import pytest

from faas.store.queue import MOST, NewJob, Queue, Reads, Want
from tests.integration.queue.jobs import A, B, done, finish_all, new, take


async def _fill(queue: Queue, jobs: list[NewJob]) -> None:
    for start in range(0, len(jobs), MOST):
        await queue.enqueue(jobs[start : start + MOST])


async def test_first_come_first_served(queue: Queue) -> None:
    jobs = [new() for _ in range(300)]
    await _fill(queue, jobs)
    assert [job.id for job in await finish_all(queue)] == [job.id for job in jobs]


@pytest.mark.parametrize("busy", [1, 20])
async def test_a_backlog_delays_anothers_first_by_no_slot(queue: Queue, busy: int) -> None:
    await _fill(queue, [new(f"default/busy{i}") for i in range(busy) for _ in range(20_000 // busy)])
    for _ in range(50):
        (job,) = (await take(queue, 1)).jobs
        await queue.turn([done(job)])
    first = new(B)
    await queue.enqueue([first])
    assert [job.id for job in (await take(queue, 1)).jobs] == [first.id]


async def test_busy_functions_take_turns(queue: Queue) -> None:
    functions = [f"default/f{i}" for i in range(5)]
    await _fill(queue, [new(function) for function in functions for _ in range(50)])
    one_by_one = [(await take(queue, 1)).jobs[0].function for _ in range(20)]
    assert all(set(one_by_one[i : i + 5]) == set(functions) for i in range(0, 20, 5))
    at_once = [job.function for job in (await take(queue, 10)).jobs]
    assert {function: at_once.count(function) for function in functions} == dict.fromkeys(functions, 2)


async def test_a_returning_function_does_not_push_in(queue: Queue) -> None:
    """Work that comes one by one is served in turn with a backlog, not before it each time."""
    await _fill(queue, [new(A) for _ in range(50)])
    served = []
    await queue.enqueue([new(B)])
    for _ in range(20):
        (job,) = (await take(queue, 1)).jobs
        served.append(job.function)
        if job.function == B:
            await queue.enqueue([new(B)])
    assert served.count(A) == 10


async def test_who_wants_less_leaves_it_to_the_others(queue: Queue) -> None:
    await _fill(queue, [new(A) for _ in range(100)] + [new(B) for _ in range(3)])
    turn = await take(queue, 64)
    functions = [job.function for job in turn.jobs]
    assert (functions.count(A), functions.count(B), turn.more) == (61, 3, True)


@pytest.mark.parametrize("batch", [1, 3, 16, 64])
async def test_low_gets_its_share_while_high_is_saturated(queue: Queue, batch: int) -> None:
    await _fill(queue, [new(priority="high") for _ in range(1_000)])
    low, normal = [new(priority="low") for _ in range(100)], [new(priority="normal") for _ in range(200)]
    await _fill(queue, low + normal)
    lanes = {job.id: "low" for job in low} | {job.id: "normal" for job in normal}
    served: list[str] = []
    while len(served) < 320:
        served += [job.id for job in (await take(queue, batch)).jobs]
    counts = [lanes.get(id, "high") for id in served]
    assert 0.05 * len(served) <= counts.count("low") <= 0.08 * len(served)
    assert 0.15 * len(served) <= counts.count("normal") <= 0.25 * len(served)
    assert [id for id in served if lanes.get(id) == "low"] == [job.id for job in low[: counts.count("low")]]


async def test_high_comes_first(queue: Queue) -> None:
    low, normal, high = new(priority="low"), new(), new(priority="high")
    await queue.enqueue([low, normal, high])
    assert [job.id for job in (await take(queue, 3)).jobs] == [high.id, normal.id, low.id]


async def test_room_is_per_function(queue: Queue) -> None:
    await _fill(queue, [new(function) for function in (A, B, "default/c") for _ in range(10)])
    turn = await queue.take(Want(node="n1", each=0, rooms={A: 2}))
    assert [job.function for job in turn.jobs] == [A, A]
    turn = await queue.take(Want(node="n1", each=1, rooms={A: 0}))
    assert sorted(job.function for job in turn.jobs) == [B, "default/c"]
    assert (await queue.take(Want(node="n1", each=0))).jobs == ()


async def test_max_in_flight_counts_all_nodes(queue: Queue, reads: Reads) -> None:
    await _fill(queue, [new() for _ in range(10)])
    first = (await take(queue, node="n1", limits={A: 3})).jobs
    assert len(first) == 3
    assert (await take(queue, node="n2", limits={A: 3})).jobs == ()
    assert len((await take(queue, node="n2", limits={A: 4})).jobs) == 1
    turn = await queue.turn([done(job) for job in first], Want(node="n1", each=9, limits={A: 4}))
    assert len(turn.jobs) == 3
    assert (await reads.depth([A]))[A].running == 4
