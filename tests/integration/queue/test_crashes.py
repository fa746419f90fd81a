"""Redis dies by SIGKILL while clients send and nodes work: what was acknowledged is there, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from faas.errors import Unavailable
from faas.store.connection import connect, translated
from faas.store.embedded import EmbeddedRedis
from faas.store.queue import Done, Enqueuer, Job, Queue, Refused, Want
from faas.store.tasks import end
from tests.integration.queue.audit import audit
from tests.integration.queue.jobs import A, B, done, immortal, new
from tests.support import wait_until

KILLS, EACH = 4, 150
LIVE = {"waiting", "delayed", "running"}


@pytest.fixture
async def server(queue_binary: Path, tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A server of the test's own, which is started again when it dies."""
    async with EmbeddedRedis(tmp_path, queue_binary) as own:
        yield own


class Client:
    """Sends jobs and remembers those it was told are stored."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.accepted: set[str] = set()

    async def send(self, enqueuer: Enqueuer, jobs: int) -> None:
        await asyncio.gather(*(self._one(enqueuer, i) for i in range(jobs)))

    async def _one(self, enqueuer: Enqueuer, i: int) -> None:
        job = new(A if i % 3 else B, attempts=100)
        while True:
            with contextlib.suppress(Unavailable):
                reply = await enqueuer.enqueue(job)
                assert not isinstance(reply, Refused)
                assert reply.id == job.id
                self.accepted.add(job.id)
                return
            await asyncio.sleep(0.01)


class Node:
    """Takes, works a moment, finishes; repeats a turn whose reply was lost."""

    def __init__(self, queue: Queue, name: str) -> None:
        self.queue, self.name = queue, name
        self.finished: set[str] = set()
        self.runs = 0

    async def work(self) -> None:
        outcomes: list[Done] = []
        want = Want(node=self.name, most=16, each=16, lease_s=1.0)
        while True:
            try:
                turn = await self.queue.turn(outcomes, want)
            except Unavailable:
                await asyncio.sleep(0.02)
                continue
            self.finished |= {one.id for one in outcomes} - set(turn.lost)
            outcomes = await self._run(turn.jobs)
            if not turn.jobs:
                with contextlib.suppress(Unavailable):
                    await self.queue.reap()
                await asyncio.sleep(0.01)

    async def _run(self, jobs: tuple[Job, ...]) -> list[Done]:
        self.runs += len(jobs)
        await asyncio.sleep(0)
        return [done(job) for job in jobs]


async def test_what_was_acknowledged_survives_kills_of_redis(server: EmbeddedRedis) -> None:
    redis = await connect(server.url)
    client, nodes = Client(Queue(redis)), [Node(Queue(redis), name) for name in ("n1", "n2")]
    workers = [asyncio.create_task(node.work(), name=node.name) for node in nodes]
    async with Enqueuer(client.queue) as enqueuer:
        for round_ in range(KILLS):
            sending = asyncio.create_task(client.send(enqueuer, EACH), name="client")
            goal = round_ * EACH + 20 + 30 * round_
            await wait_until(lambda: len(client.accepted) >= goal, what="the client got answers")  # noqa: B023
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.wait_for(sending, 60)
    assert len(client.accepted) == KILLS * EACH
    states = await wait_until(lambda: _ended(redis, workers), 60, "all jobs ended")
    for worker in workers:
        await end(worker)
    assert client.accepted <= set(states)
    finished = nodes[0].finished | nodes[1].finished
    assert all(states[id] == "succeeded" for id in finished)
    assert nodes[0].runs + nodes[1].runs - len(states) <= KILLS * 2 * 16 * 2
    await Queue(redis).reap()
    assert await immortal(redis) == []
    await redis.aclose()


async def _ended(redis: Redis, workers: list[asyncio.Task[None]]) -> dict[str, str] | None:
    for worker in workers:
        if worker.done():
            worker.result()
    with contextlib.suppress(Unavailable), translated():
        # Nodes are at work: only at rest does everything have to fit.
        jobs = [key async for key in redis.scan_iter("faas:{q}:m:*", count=1000)]
        async with redis.pipeline(transaction=False) as pipe:
            for key in jobs:
                pipe.hget(key, "s")
            if not {state.decode() for state in await pipe.execute() if state} & LIVE:
                return await audit(redis)
    return None
