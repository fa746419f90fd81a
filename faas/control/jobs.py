"""Background calls: accepted here, stored in Redis before anyone is told so, and asked about later.

accept(call) --Enqueuer--> Redis (fsync) --> 202 with the id
wait(id), result(id), cancel(ids) ...    what became of it
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from faas.errors import FaasError, Invalid, NotFound, Unavailable
from faas.ids import is_id, new_id
from faas.model import Function, Version
from faas.names import Target
from faas.node.call import Call
from faas.store.queue.bells import Bells
from faas.store.queue.enqueuer import Enqueuer
from faas.store.queue.model import Enqueued, Info, Input, NewJob, Once, Priority, Refused, Result
from faas.store.queue.queue import Queue
from faas.store.queue.reads import Reads

WAIT_MAX_S = 60.0
"""Longest that a caller may wait for a result in one request."""


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
    ) -> None:
        """
        Args:
            durable: why accepted calls could be lost; empty when they cannot.
        """
        self.queue = queue
        self.reads = reads
        self._enqueuer = enqueuer
        self._bells = bells
        self._durable = durable

    async def accept(self, target: Target, function: Function, version: Version, call: Call, terms: Terms) -> Enqueued:
        """Store `call`; when this returns, no crash of anything loses it.

        Raises:
            Unavailable: Redis does not answer, or may lose what it was told.
            TooManyRequests: the function's queue is full.
            Invalid: the key came with another request before.
        """
        await self._check_durable()
        answer = await self._enqueuer.enqueue(self._job(target, function, version, call, terms))
        if isinstance(answer, Refused):
            raise answer.error
        return answer

    async def accept_many(
        self, target: Target, function: Function, version: Version, calls: Sequence[Call], terms: Terms
    ) -> list[Enqueued | FaasError]:
        """Store many calls in as few moves as possible; one answer each, in order."""
        await self._check_durable()
        answers: list[Enqueued | FaasError] = []
        for start in range(0, len(calls), 256):
            batch = [self._job(target, function, version, call, terms) for call in calls[start : start + 256]]
            stored = await self.queue.enqueue(batch)
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


def check_id(text: str) -> str:
    """`text` itself. Raises NotFound for what cannot be an invocation's id."""
    if not is_id(text):
        raise NotFound(f'"{text[:80]}" is not the id of an invocation', hint="Ids look like c-0123456789ab...")
    return text


def new_job_id() -> str:
    """An id for a background call: the call id of all its attempts."""
    return new_id("c")


def at_from(seconds: float | None, now: Callable[[], float] = time.time) -> float | None:
    """A time to begin at, checked. Raises Invalid for one too far away to be meant."""
    if seconds is None:
        return None
    if not 0 < seconds < now() + 366 * 86400:
        raise Invalid(f"{seconds} is not a Unix time within a year from now", hint="Use seconds since 1970.")
    return seconds
