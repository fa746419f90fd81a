"""Background calls: accepted here, stored in Redis before anyone is told so, and asked about later.

accept(call) --Enqueuer--> Redis (fsync) --> 202 with the id
wait(id), result(id), cancel(ids) ...    what became of it
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from faas.control.invocations import Invocations
from faas.control.quotas import Quotas
from faas.errors import FaasError, Invalid, NotFound, Unavailable
from faas.ids import is_id
from faas.model import Function, Version
from faas.names import Target
from faas.node.call import Call
from faas.store.queue.bells import Bells
from faas.store.queue.claims import Claims
from faas.store.queue.enqueuer import Enqueuer
from faas.store.queue.model import Enqueued, Info, Input, NewJob, Once, Priority, Refused, Result
from faas.store.queue.queue import MOST, Queue
from faas.store.queue.reads import Reads

WAIT_MAX_S = 60.0
"""Longest that a caller may wait for a result in one request."""
MANY_MAX = 10_000
"""Most calls in one batch."""
MOVE_BYTES = 4 * 1024 * 1024
"""Bytes of input stored in one move: Redis serves nobody else meanwhile."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a background call is to be run, as its caller asked. Times in seconds."""

    key: str = ""
    """Idempotency key; empty: none."""
    caller: str = ""
    """Who asks: keys of different callers do not meet."""
    delay_s: float = 0.0
    at: float | None = None
    priority: Priority = "normal"
    notify: bool = False


class Jobs:
    """Accepts background calls and answers for them."""

    def __init__(
        self,
        queue: Queue,
        reads: Reads,
        enqueuer: Enqueuer,
        bells: Bells,
        durable: Callable[[], Awaitable[str]],
        claims: Claims,
        quotas: Quotas | None = None,
    ) -> None:
        """
        Args:
            durable: why accepted calls could be lost; empty when they cannot.
            quotas: what apps may have; None: no app has a quota.
        """
        self._quotas = quotas
        self.queue = queue
        self.reads = reads
        self.claims = claims
        self._enqueuer = enqueuer
        self._bells = bells
        self._durable = durable
        self.invocations = Invocations(queue, reads)

    async def accept(self, target: Target, function: Function, version: Version, call: Call, terms: Terms) -> Enqueued:
        """Store `call`; when this returns, no crash of anything loses it.

        Raises:
            Unavailable: Redis does not answer, or may lose what it was told.
            TooManyRequests: the queue of the function or of its app is full, or the app has had its calls a second.
            Invalid: the key came with another request before.
        """
        await self._check_durable()
        if self._quotas is not None:
            self._quotas.admit(function.app)
        answer = await self._enqueuer.enqueue(self._job(target, function, version, call, terms))
        if isinstance(answer, Refused):
            raise answer.error
        return answer

    async def accept_many(
        self, target: Target, function: Function, version: Version, calls: Sequence[Call], terms: Terms
    ) -> list[Enqueued | FaasError]:
        """Store many calls in as few moves as possible; one answer each, in order.

        An idempotency key is that of the whole batch: each call has its own, made from the key and its place.

        Raises:
            Unavailable: nothing was stored, because it could be lost. Later failures are answers.
            TooManyRequests: the app has had its calls a second; a batch counts as one.
        """
        await self._check_durable()
        if self._quotas is not None:
            self._quotas.admit(function.app)
        jobs = [
            self._job(target, function, version, call, replace(terms, key=f"{terms.key}#{at}") if terms.key else terms)
            for at, call in enumerate(calls)
        ]
        answers: list[Enqueued | FaasError] = []
        for batch in _batches(jobs):
            try:
                stored = await self.queue.enqueue(batch)
            except FaasError as error:
                answers.extend([error] * len(batch))
            else:
                answers.extend(answer.error if isinstance(answer, Refused) else answer for answer in stored)
        return answers

    async def _check_durable(self) -> None:
        if problem := await self._durable():
            raise Unavailable(
                f"background calls are not accepted, because they could be lost: {problem}",
                hint="Correct Redis, or start the node with --durability memory.",
            )

    def _job(self, target: Target, function: Function, version: Version, call: Call, terms: Terms) -> NewJob:
        settings = version.settings
        key = function.id.key
        once = None
        if terms.key:
            request = (call.method.encode(), call.path.encode(), call.query.encode(), call.body)
            once = Once.of(key, terms.caller, terms.key, *request)
        return NewJob(
            id=call.id,
            function=key,
            input=Input(
                target=str(target),
                kind=call.kind,
                method=call.method,
                path=call.path,
                query=call.query,
                headers=tuple((bytes(name), bytes(value)) for name, value in call.headers),
                body=call.body,
                extra=call.extra,
            ),
            priority=terms.priority,
            attempts=settings.retries + 1,
            max_age_s=settings.max_age_s,
            delay_s=terms.delay_s,
            at=terms.at,
            once=once,
            notify=terms.notify,
            app_most=self._quotas.queue(function.app) if self._quotas else 0,
        )

    async def info(self, id: str, wait_s: float = 0.0) -> Info:
        """A job as it is, or as it is when it has ended or `wait_s` have passed. Raises NotFound."""
        check_id(id)
        found = await self._bells.wait(id, min(wait_s, WAIT_MAX_S)) if wait_s > 0 else await self.reads.get(id)
        if found is None:
            raise NotFound(
                f"there is no invocation {id}", hint="Results are kept 24 hours; list others with: faas invocations ls"
            )
        return found

    async def result(self, id: str) -> Result | None:
        """What its last attempt answered; None before its end."""
        return await self.reads.result(check_id(id))


def _batches(jobs: Sequence[NewJob]) -> Iterator[list[NewJob]]:
    """`jobs` in order, cut so that no move is too long."""
    batch: list[NewJob] = []
    size = 0
    for job in jobs:
        size += len(job.input.body)
        if batch and (len(batch) >= MOST or size > MOVE_BYTES):
            yield batch
            batch, size = [], len(job.input.body)
        batch.append(job)
    if batch:
        yield batch


def check_id(text: str) -> str:
    """`text` itself. Raises NotFound for what cannot be an invocation's id."""
    if not is_id(text):
        raise NotFound(f'"{text[:80]}" is not the id of an invocation', hint="Ids look like c-0123456789ab...")
    return text


def at_from(text: str, now: Callable[[], float] = time.time) -> float:
    """Unix seconds from `1767225600` or `2026-01-01T00:00:00+01:00`.

    Raises:
        Invalid: it is neither, has no time zone, or is more than a year away.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = _from_iso(text)
    if not 0 < seconds < now() + 366 * 86400:
        raise Invalid(f'"{text[:40]}" is not a time within a year from now', hint="It is in Unix seconds or RFC 3339.")
    return seconds


def _from_iso(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Invalid(
            f'"{text[:40]}" is not a time with its zone', hint="Write 2026-01-01T00:00:00Z, or seconds since 1970."
        )
    return moment.timestamp()
