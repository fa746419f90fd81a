"""What the queue's moves cost: jobs a second by batch and fsync mode, Redis' own CPU and memory a job.

    python -m benchmarks.queue_moves [--jobs 10000] [--server PATH]

A server of its own, one connection, one batch at a time: the cost of a move, not the most that many clients get.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis

from faas.ids import new_id
from faas.store.connection import connect
from faas.store.embedded import EmbeddedRedis
from faas.store.queue import Done, Enqueuer, Input, NewJob, Queue, Result, Want

BODY = b'{"name": "world", "n": 12345}'
HEADERS = ((b"content-type", b"application/json"), (b"user-agent", b"bench"))
REPLY = Result(status=200, headers=((b"content-type", b"application/json"),), body=b"null")


class Cost(NamedTuple):
    """`rate`: jobs a second on the clock. `cpu_us`: microseconds of Redis' main thread a job."""

    rate: float
    cpu_us: float


def _jobs(count: int) -> list[NewJob]:
    return [
        NewJob(id=new_id("inv"), function="default/hello", input=Input(target="hello", headers=HEADERS, body=BODY))
        for _ in range(count)
    ]


async def _cpu(redis: Redis) -> float:
    info = await redis.info("cpu")
    return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])


async def _memory(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


async def _enqueue(queue: Queue, redis: Redis, jobs: list[NewJob], batch: int) -> Cost:
    cpu, start = await _cpu(redis), time.perf_counter()
    for at in range(0, len(jobs), batch):
        await queue.enqueue(jobs[at : at + batch])
    return Cost(len(jobs) / (time.perf_counter() - start), (await _cpu(redis) - cpu) / len(jobs) * 1e6)


async def _work(queue: Queue, redis: Redis, count: int, batch: int) -> Cost:
    want = Want(node="bench", most=batch, each=batch)
    cpu, start = await _cpu(redis), time.perf_counter()
    turn = await queue.take(want)
    done = 0
    while turn.jobs:
        done += len(turn.jobs)
        turn = await queue.turn([Done(id=job.id, take=job.take, result=REPLY) for job in turn.jobs], want)
    assert done == count, f"{done} of {count} jobs came"
    return Cost(count / (time.perf_counter() - start), (await _cpu(redis) - cpu) / count * 1e6)


async def _gathered(queue: Queue, jobs: list[NewJob]) -> float:
    """Jobs a second through the batch writer, all submitted at once."""
    async with Enqueuer(queue) as enqueuer:
        start = time.perf_counter()
        await asyncio.gather(*(enqueuer.enqueue(job) for job in jobs))
        return len(jobs) / (time.perf_counter() - start)


async def run(server: Path | None, count: int) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedRedis(Path(folder), server) as embedded:
            redis = await connect(embedded.url)
            about = await redis.info("server")
            print(f"{about.get('server_name', 'redis')} {about.get('valkey_version', about['redis_version'])}", end="")
            print(f", {count} jobs of {len(BODY)} bytes, results kept, one connection\n")
            print("| fsync | batch | enqueue/s | us of Redis | take + finish/s | us of Redis | B waiting | B ended |")
            print("|---|---|---|---|---|---|---|---|")
            for fsync in ("always", "everysec"):
                await redis.config_set("appendfsync", fsync)
                for batch in (1, 32, 64):
                    await _line(redis, fsync, batch, count if batch > 1 else max(500, count // 10))
                await redis.flushall()
                rate = await _gathered(Queue(redis), _jobs(count))
                print(f"| {fsync} | Enqueuer | {rate:,.0f} | | | | | |")
            await redis.aclose()


async def _line(redis: Redis, fsync: str, batch: int, count: int) -> None:
    await redis.flushall(asynchronous=False)
    queue = Queue(redis)
    await queue.enqueue(_jobs(1))
    await _work(queue, redis, 1, 1)
    empty = await _memory(redis)
    enqueue = await _enqueue(queue, redis, _jobs(count), batch)
    waiting = (await _memory(redis) - empty) / count
    work = await _work(queue, redis, count, batch)
    ended = (await _memory(redis) - empty) / count
    print(
        f"| {fsync} | {batch} | {enqueue.rate:,.0f} | {enqueue.cpu_us:.1f} | {work.rate:,.0f} | {work.cpu_us:.1f}"
        f" | {waiting:.0f} | {ended:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--server", type=Path, help="a redis-server; default: the one that comes with the package")
    options = parser.parse_args()
    asyncio.run(run(options.server, options.jobs))


if __name__ == "__main__":
    main()
