"""Nodes come, work, stall, die and repeat themselves in any order: no job is lost, none has two live leases."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis

from faas.store.connection import connect
from faas.store.queue import Enqueued, Job, NewJob, Queue, Want
from tests.integration.queue.audit import audit
from tests.integration.queue.jobs import A, B, back, done, finish_all, immortal, new, once, retry, take

T = TypeVar("T")
LIVE = {"waiting", "delayed", "running"}
ends = st.sampled_from(["succeeded", "failed", "dead", "retry", "retry later", "back"])
nodes = st.sampled_from(["n1", "n2", "n3"])
MS_LEASE = 0.001


class Machine(RuleBasedStateMachine):
    """The model: what clients were told, and what each node believes it holds."""

    url: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.sent: list[NewJob] = []
        self.accepted: set[str] = set()
        self.by_key: dict[str, str] = {}
        self.held: dict[str, list[Job]] = {"n1": [], "n2": [], "n3": []}
        self.succeeded: set[str] = set()
        self.newest: dict[str, int] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        self.redis = self.run(connect(self.url))
        self.run(_empty(self.redis))
        self.queue = Queue(self.redis)

    @rule(
        function=st.sampled_from([A, B]),
        priority=st.sampled_from(["high", "normal", "low"]),
        attempts=st.integers(1, 3),
        delay_s=st.sampled_from([0.0, 0.0, 0.001]),
        key=st.sampled_from(["", "", "k1", "k2"]),
        twice=st.booleans(),
    )
    def enqueue(self, function: str, key: str, twice: bool, **more: Any) -> None:
        job = new(function, once=once(key, function=function) if key else None, **more)
        for _ in range(1 + twice):
            (reply,) = self.run(self.queue.enqueue([job]))
            assert isinstance(reply, Enqueued)
            first = self.by_key.setdefault(function + key, job.id) if key else job.id
            assert reply.id == first
            self.accepted.add(reply.id)
        self.sent.append(job)

    @rule()
    def resend_everything(self) -> None:
        replies = self.run(self.queue.enqueue(self.sent[-50:]))
        assert all(isinstance(reply, Enqueued) and reply.duplicate for reply in replies)

    @rule(node=nodes, most=st.integers(1, 5), stalls=st.booleans())
    def take(self, node: str, most: int, stalls: bool) -> None:
        turn = self.run(take(self.queue, most, node, lease_s=MS_LEASE if stalls else 60.0))
        assert len(turn.jobs) <= most
        self.hold(node, turn.jobs)

    def hold(self, node: str, jobs: Sequence[Job]) -> None:
        for job in jobs:
            assert job.take > self.newest.get(job.id, 0)
            self.newest[job.id] = job.take
        self.held[node] += jobs

    @rule(node=nodes, most=st.integers(0, 3), how=st.lists(ends, min_size=5, max_size=5), twice=st.booleans())
    def turn(self, node: str, most: int, how: list[str], twice: bool) -> None:
        jobs = self.held[node][:5]
        self.held[node] = self.held[node][5:]
        states = self.run(audit(self.redis))
        newest = dict(self.newest)
        outcomes = [_outcome(job, end) for job, end in zip(jobs, how, strict=False)]
        turn = self.run(self.queue.turn(outcomes, Want(node=node, most=most, each=most, lease_s=60.0)))
        for job, end in zip(jobs, how, strict=False):
            if job.id not in turn.lost:
                assert states[job.id] == "running"
                assert job.take == newest[job.id], "an outcome under an old lease counted"
                assert job.id not in self.succeeded
                if end == "succeeded":
                    self.succeeded.add(job.id)
        self.hold(node, turn.jobs)
        if twice:
            assert len(self.run(self.queue.turn(outcomes)).lost) == len(outcomes)

    @rule(node=nodes)
    def renew(self, node: str) -> None:
        held = [(job.id, job.take) for job in self.held[node]]
        kept = self.run(self.queue.renew(node, held, 60.0))
        self.held[node] = [job for job in self.held[node] if kept[job.id].held]

    @rule(node=nodes, dies=st.booleans())
    def lose(self, node: str, dies: bool) -> None:
        """The others believe it is dead; it may not know and go on."""
        self.run(self.queue.node_lost(node))
        if dies:
            self.held[node] = []

    @rule(node=nodes, other=nodes)
    def overtake(self, node: str, other: str) -> None:
        """A node that is believed dead reports when its jobs are another's already."""
        late, self.held[node] = self.held[node], []
        self.run(self.queue.node_lost(node))
        self.hold(other, self.run(take(self.queue, 16, other, lease_s=60.0)).jobs)
        turn = self.run(self.queue.turn([done(job, state="failed") for job in late]))
        assert set(turn.lost) == {job.id for job in late}, "an outcome under an old lease counted"

    @rule(node=nodes)
    def crash(self, node: str) -> None:
        """It dies before anybody knows: its leases stay until somebody looks."""
        self.held[node] = []

    @rule()
    def reap(self) -> None:
        self.run(self.queue.reap())

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.accepted:
            self.run(self.queue.cancel([data.draw(st.sampled_from(sorted(self.accepted)))]))

    @rule()
    def redrive(self) -> None:
        states = self.run(audit(self.redis))
        ids = sorted(id for id, state in states.items() if state in ("dead", "failed", "cancelled"))
        assert set(self.run(self.queue.again(ids)).values()) <= {"waiting"}

    @rule()
    def purge(self) -> None:
        states = self.run(audit(self.redis))
        ids = sorted(id for id, state in states.items() if state == "dead")
        self.run(self.queue.purge(ids))
        self.accepted -= set(ids)
        self.newest = {id: take for id, take in self.newest.items() if id in self.accepted}
        self.sent = [job for job in self.sent if job.id in self.accepted]
        self.by_key = {key: id for key, id in self.by_key.items() if id not in ids}

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "queue"):
            return
        states = self.run(audit(self.redis))
        assert set(states) == self.accepted
        assert {id for id in self.succeeded if states[id] != "succeeded"} == set()

    def teardown(self) -> None:
        try:
            if hasattr(self, "queue"):
                self.run(self._drain())
        finally:
            self.runner.close()

    async def _drain(self) -> None:
        """Everybody dies and one node comes up: all that was accepted ends, and nothing stays for ever."""
        for node in self.held:
            await self.queue.node_lost(node)
        async with asyncio.timeout(10):
            while LIVE & set((await audit(self.redis)).values()):
                await finish_all(self.queue, "last")
                await self.queue.reap()
        assert await immortal(self.redis) == []
        await self.redis.aclose()


async def _empty(redis: Redis) -> None:
    await redis.flushall()


def _outcome(job: Job, end: str) -> Any:
    if end == "back":
        return back(job)
    return retry(job, 0.001 * (end == "retry later")) if end.startswith("retry") else done(job, state=end)


def test_any_order_of_moves(queue_url: str) -> None:
    class Here(Machine):
        url = queue_url

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
