"""Runs background calls on this node: takes jobs for the room it has, runs them, says how they ended.

    bell, a slot, a second ------> turn(outcomes, want) --> jobs --> one task each: run --> outcome --+
                                    one round trip: what ended goes out, what fits comes in           |
                                         ^------------------------------------------------------------+

While a turn is on its way, outcomes gather for the next: the busier the node, the larger the batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Any

import structlog

from faas.control.invoke import Invoker
from faas.errors import (
    CallerError,
    CrashLoop,
    DeadlineExceeded,
    FaasError,
    FunctionError,
    InstanceDied,
    NotFound,
    StartFailed,
    problem,
)
from faas.model import Version
from faas.names import parse_key, parse_target
from faas.node.call import Call, Reply
from faas.node.dispatcher import Dispatcher
from faas.policy import retry
from faas.store.queue.model import Attempt, Done, EndState, GiveBack, Job, Outcome, Result, Turn, Want
from faas.store.queue.model import Retry as Again
from faas.store.queue.queue import MOST, Queue

log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""Seconds after which the queue is looked at without a bell."""
LEASE_S = 10.0
AHEAD_S = 0.020
"""Seconds of work taken beyond the free slots."""
AHEAD_MAX = 64
COLD_ROOM = 1
"""Jobs taken for a function that has no instance here: enough to start one."""


class _Held:
    """A job this node has under a lease."""

    __slots__ = ("began", "job", "task")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.began = time.time()
        self.task: asyncio.Task[None] | None = None


class Consumer:
    """An async context manager around its loops. Leaving gives back what has not begun."""

    def __init__(self, node_id: str, queue: Queue, invoker: Invoker, dispatcher: Dispatcher) -> None:
        self._node_id = node_id
        self._queue = queue
        self._invoker = invoker
        self._dispatcher = dispatcher
        self._held: dict[str, _Held] = {}
        self._outcomes: list[Outcome] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._silent = False
        self._more = False
        self._due_s: float | None = None

    # -- life ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Consumer:
        self._tasks = [
            asyncio.create_task(self._turns(), name="queue-turns"),
            asyncio.create_task(self._renewals(), name="queue-renewals"),
        ]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Called when the pools are drained: what still waits here goes back unbegun, what ended is told."""
        self._stopping = True
        for held in list(self._held.values()):
            if held.task is not None:
                held.task.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        waiting = [held.task for held in self._held.values() if held.task is not None]
        await asyncio.gather(*waiting, return_exceptions=True)
        with contextlib.suppress(FaasError):
            while self._outcomes:
                batch, self._outcomes = self._outcomes[:MOST], self._outcomes[MOST:]
                await self._queue.turn(batch)

    def stop_taking(self) -> None:
        """Take no more jobs; those held go on."""
        self._stopping = True

    def on_work(self, _function: str) -> None:
        """A function may have work: look now."""
        self._wake.set()

    def on_cancel(self, id: str) -> None:
        """Somebody wants this job to stop."""
        held = self._held.get(id)
        if held is not None and held.task is not None:
            held.task.cancel("cancelled by its caller")

    # -- loops ---------------------------------------------------------------------------------------------

    async def _turns(self) -> None:
        while True:
            if not self._outcomes and not self._more:
                pause = LOOK_S if self._due_s is None else min(LOOK_S, max(0.005, self._due_s))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
            self._wake.clear()
            batch, self._outcomes = self._outcomes[:MOST], self._outcomes[MOST:]
            try:
                turn = await self._queue.turn(batch, self._want())
            except FaasError as error:
                self._outcomes = [*batch, *self._outcomes]  # repeating is harmless
                self._say_silent(error)
                await asyncio.sleep(LOOK_S / 2)
                continue
            self._silent = False
            self._begin(turn)

    def _say_silent(self, error: FaasError) -> None:
        if not self._silent:
            log.warning("the queue does not answer: background calls wait", error=error.message)
        self._silent = True

    async def _renewals(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            held = [(id, one.job.take) for id, one in self._held.items()]
            for start in range(0, len(held), MOST):
                try:
                    kept = await self._queue.renew(self._node_id, held[start : start + MOST], LEASE_S)
                except FaasError as error:
                    self._say_silent(error)
                    break
                for id, state in kept.items():
                    if state.cancel or not state.held:
                        self.on_cancel(id)

    # -- room ----------------------------------------------------------------------------------------------

    def _want(self) -> Want | None:
        """Room by function: free slots, what one more instance would have, and a little ahead."""
        if self._stopping or self._dispatcher.closing:
            return None
        rooms: dict[str, int] = {}
        limits: dict[str, int] = {}
        for pool in self._dispatcher.pools.values():
            key = pool.id.function.key
            settings = pool.version.settings
            if settings.max_in_flight:
                limits[key] = settings.max_in_flight
            if pool.retired_at is not None:
                continue
            room = self._ahead(pool.service_s, pool.slots, len(pool.instances)) + pool.free
            if len(pool.instances) + pool.starting < pool.max:
                room += pool.slots
            room -= pool.waiting
            if pool.function.paused or pool.backing_off:
                room = 0
            rooms[key] = max(0, min(room, AHEAD_MAX + pool.free))
        return Want(node=self._node_id, most=MOST, lease_s=LEASE_S, each=COLD_ROOM, rooms=rooms, limits=limits)

    @staticmethod
    def _ahead(service_s: float | None, slots: int, instances: int) -> int:
        if not service_s or not instances:
            return 0
        return min(AHEAD_MAX, int(AHEAD_S / service_s * slots * instances))

    # -- one job -------------------------------------------------------------------------------------------

    def _begin(self, turn: Turn) -> None:
        self._more = turn.more and bool(turn.jobs)
        self._due_s = turn.next_due_s
        for job in turn.jobs:
            held = self._held[job.id] = _Held(job)
            held.task = asyncio.create_task(self._run(held), name=job.id)

    async def _run(self, held: _Held) -> None:
        job = held.job
        try:
            outcome = await self._attempt(held)
        except asyncio.CancelledError:
            outcome = self._interrupted(held)
        except Exception as error:
            log.exception("a background call failed inside the platform", call=job.id)
            outcome = self._failed(held, None, FaasError(f"{type(error).__name__} inside the platform"))
        del self._held[job.id]
        self._outcomes.append(outcome)
        self._wake.set()

    async def _attempt(self, held: _Held) -> Outcome:
        job = held.job
        version: Version | None = None
        call = _call_of(job)
        try:
            function, version = await self._invoker.resolve(parse_target(job.input.target))
            reply = await self._invoker.run(function, version, call)
            body = reply.body if reply.stream is None else await _whole(reply)
        except FaasError as error:
            if not _has_begun(error) and not isinstance(error, NotFound | StartFailed | CrashLoop | CallerError):
                return GiveBack(id=job.id, take=job.take)
            return self._failed(held, version, error)
        result = Result(status=reply.status, headers=tuple((bytes(n), bytes(v)) for n, v in reply.headers), body=body)
        if reply.status >= 500 or reply.status == 429:
            return self._bad_status(held, version, result)
        if reply.status >= 400:
            return Done(id=job.id, take=job.take, state="failed", cause=f"status {reply.status}", result=result)
        return Done(id=job.id, take=job.take, result=result)

    def _interrupted(self, held: _Held) -> Outcome:
        """Its task was cancelled: by the caller, or because this node stops."""
        job = held.job
        if self._stopping:
            return GiveBack(id=job.id, take=job.take)
        record = self._record(held, "cancelled", None)
        return Done(id=job.id, take=job.take, state="cancelled", cause="cancelled", attempt=record)

    def _bad_status(self, held: _Held, version: Version | None, result: Result) -> Outcome:
        asked = None
        for name, value in result.headers:
            if name.lower() == b"retry-after":
                asked = retry.retry_after_s(value.decode("latin-1"), time.time())
        kind: retry.Kind = "asked" if asked is not None else "raised"
        return self._verdict(held, version, kind, f"status {result.status}", asked, result)

    def _failed(self, held: _Held, version: Version | None, error: FaasError) -> Outcome:
        kind = _kind(error)
        asked = error.retry_after_s if error.code == "retry" else None
        document = problem(error, call_id=held.job.id)
        result = Result(status=error.status, error=document)
        return self._verdict(held, version, "asked" if asked is not None else kind, error.code, asked, result)

    def _verdict(
        self,
        held: _Held,
        version: Version | None,
        kind: retry.Kind,
        cause: str,
        asked: float | None,
        result: Result,
    ) -> Outcome:
        job = held.job
        settings = version.settings if version is not None else None
        policy = retry.Policy(attempts=job.attempts)
        if settings is not None:
            policy = retry.Policy(job.attempts, settings.retry_wait_s, settings.retry_factor, settings.retry_cap_s)
        verdict = retry.decide(policy, kind, job.attempt, random.random(), asked)  # noqa: S311 (jitter)
        record = self._record(held, cause, result.error)
        if verdict.retry:
            return Again(id=job.id, take=job.take, after_s=verdict.after_s, cause=cause, attempt=record)
        state: EndState = "failed" if kind == "caller" else "dead"
        return Done(id=job.id, take=job.take, state=state, cause=cause, result=result, attempt=record)

    def _record(self, held: _Held, cause: str, error: dict[str, Any] | None) -> Attempt:
        return Attempt(
            number=held.job.attempt,
            node=self._node_id,
            started_ms=int(held.began * 1000),
            ended_ms=int(time.time() * 1000),
            cause=cause,
            error=error,
        )


def _call_of(job: Job) -> Call:
    given = job.input
    return Call(
        job.id,
        kind=given.kind,
        method=given.method,
        path=given.path,
        query=given.query,
        headers=list(given.headers),
        body=given.body,
        extra={**given.extra, "attempt": job.attempt, "function": str(parse_key(job.function))},
    )


async def _whole(reply: Reply) -> bytes:
    """A streamed reply as one body. Raises the error it broke off with."""
    assert reply.stream is not None
    parts = [part async for part in reply.stream]
    return b"".join(parts)


def _has_begun(error: FaasError) -> bool:
    return isinstance(error, FunctionError) and not isinstance(error, StartFailed | CrashLoop)


def _kind(error: FaasError) -> retry.Kind:
    if isinstance(error, DeadlineExceeded):
        return "timeout"
    if isinstance(error, InstanceDied | CrashLoop):
        return "crash"
    if isinstance(error, CallerError):
        return "caller"
    return "raised" if isinstance(error, FunctionError) else "platform"
