"""Collects what is enqueued in the same moment into one move: with an fsync each, one by one costs ten times more."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import NamedTuple, Self

from faas.errors import FaasError, Internal, TooManyRequests, Unavailable
from faas.store.queue.model import Enqueued, NewJob, Refused
from faas.store.queue.queue import Queue
from faas.store.tasks import end

BATCH = 128
BATCH_BYTES = 4 * 1024 * 1024
PENDING = 20_000
PENDING_BYTES = 128 * 1024 * 1024
CLOSE_S = 10.0


class _Waiting(NamedTuple):
    job: NewJob
    bytes: int
    answer: asyncio.Future[Enqueued | Refused]


class Enqueuer:
    """An async context manager around one writer task. While a batch is on its way the next one gathers."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._pending: deque[_Waiting] = deque()
        self._bytes = 0
        self._work = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write(), name="enqueuer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What was submitted is written, within CLOSE_S; the rest is told that it was not."""
        self._closing = True
        self._work.set()
        assert self._writer is not None
        try:
            await asyncio.wait([self._writer], timeout=CLOSE_S)
        finally:
            await end(self._writer)
            self._fail(list(self._pending), _closed())
            self._pending.clear()

    async def enqueue(self, job: NewJob) -> Enqueued | Refused:
        """Accept one job. It is stored when this returns Enqueued, even if the caller is cancelled meanwhile.

        Raises:
            TooManyRequests: more is on its way to Redis than this node holds.
            Invalid: the job is out of bounds.
            Unavailable: Redis does not answer (it may be stored: repeat with the same id), or the node stops.
        """
        if self._closing:
            raise _closed()
        size = len(job.input.body)
        if len(self._pending) >= PENDING or self._bytes + size > PENDING_BYTES:
            raise TooManyRequests(
                f"{len(self._pending)} jobs wait to be stored: Redis is slower than they come",
                retry_after_s=1.0,
            )
        answer: asyncio.Future[Enqueued | Refused] = asyncio.get_running_loop().create_future()
        self._pending.append(_Waiting(job, size, answer))
        self._bytes += size
        self._work.set()
        return await answer

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            batch = self._next()
            if batch:
                await self._send(batch)
            elif self._closing:
                return
            else:
                self._work.clear()

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._pending and len(batch) < BATCH:
            if batch and size + self._pending[0].bytes > BATCH_BYTES:
                break
            batch.append(self._pending.popleft())
            size += batch[-1].bytes
        self._bytes -= size
        return batch

    async def _send(self, batch: list[_Waiting]) -> None:
        try:
            answers = await self._queue.enqueue([one.job for one in batch])
        except Unavailable as error:
            self._fail(batch, error)
        except asyncio.CancelledError:
            self._fail(batch, _closed())
            raise
        except Exception as error:
            await self._one_by_one(batch, error)
        else:
            for one, answer in zip(batch, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)

    async def _one_by_one(self, batch: list[_Waiting], error: Exception) -> None:
        """A bad job must not take its neighbours down."""
        if len(batch) > 1:
            for one in batch:
                await self._send([one])
        elif isinstance(error, FaasError):
            self._fail(batch, error)
        else:
            failed = Internal(f"job {batch[0].job.id} cannot be stored: {type(error).__name__}: {error}")
            failed.__cause__ = error
            self._fail(batch, failed)

    @staticmethod
    def _fail(batch: list[_Waiting], error: FaasError) -> None:
        for one in batch:
            if not one.answer.done():
                # One a waiter: a shared exception would collect the tracebacks of all of them.
                own = type(error)(error.message, hint=error.hint, retry_after_s=error.retry_after_s)
                own.__cause__ = error.__cause__
                one.answer.set_exception(own)


def _closed() -> Unavailable:
    return Unavailable("the node is stopping; the job may not be stored", hint="Send it again.", retry_after_s=1.0)
