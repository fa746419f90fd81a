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
from collections import deque
from collections.abc import Callable

import structlog

from faas.control import outcomes
from faas.control.held import Held, Holdings
from faas.control.invoke import Invoker
from faas.control.kept import whole_body
from faas.control.room import LEASE_S, Rooms
from faas.errors import FaasError, Internal
from faas.model import Settings
from faas.names import parse_key, parse_target
from faas.node.call import Call
from faas.store.queue.model import Done, GiveBack, Job, Outcome, Result, Retry, Turn
from faas.store.queue.queue import MOST, Queue
from faas.store.tasks import end

log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""Seconds after which the queue is looked at without a bell."""
SILENT_S = 0.5
"""Seconds between two tries while Redis does not answer."""
TELL_BYTES = 8 * 1024 * 1024
"""Bytes of results told in one turn; a larger one goes alone."""
CLOSE_S = 5.0

Counted = Callable[[str, str], None]
"""Told of each outcome: function key, and what became of it."""


class Consumer:
    """An async context manager around its loops. Leaving gives back what has not begun."""

    def __init__(
        self, node_id: str, queue: Queue, invoker: Invoker, rooms: Rooms, holdings: Holdings, count: Counted
    ) -> None:
        self._node_id = node_id
        self._queue = queue
        self._invoker = invoker
        self._rooms = rooms
        self._held = holdings
        self._count = count
        self._outcomes: deque[Outcome] = deque()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._silent = False
        self._more = False
        self._due_s: float | None = None

    # -- life ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Consumer:
        """What an earlier life of this node had taken goes back at once: the data directory's lock says it is over."""
        with contextlib.suppress(FaasError):
            while (await self._queue.node_lost(self._node_id)).more:
                pass
        self._tasks = [
            asyncio.create_task(self._turns(), name="queue-turns"),
            asyncio.create_task(self._renewals(), name="queue-renewals"),
        ]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Called when the pools are drained: what still waits here goes back unbegun, what ended is told."""
        self._stopping = True
        await asyncio.sleep(0)  # tasks that were only just made get their first step
        running = [held.task for held in self._held if held.task is not None]
        await asyncio.gather(*map(end, [*running, *self._tasks]))
        with contextlib.suppress(FaasError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while batch := self._next():
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
            # In the next turn of the loop: a task cancelled before its first step would tell nobody of its end.
            asyncio.get_running_loop().call_soon(held.task.cancel, "cancelled by its caller")

    # -- loops ---------------------------------------------------------------------------------------------

    async def _turns(self) -> None:
        while True:
            await self._something_to_do()
            batch = self._next()
            want = None if self._stopping else self._rooms.want(len(self._held), self._held.bytes)
            try:
                turn = await self._queue.turn(batch, want)
            except FaasError as error:
                self._outcomes.extendleft(reversed(batch))  # repeating is harmless
                self._say_silent(error)
                await asyncio.sleep(SILENT_S)
            except BaseException:
                self._outcomes.extendleft(reversed(batch))
                raise
            else:
                self._silent = False
                self._begin(turn)
                # The tasks just made take their slots now: the next look at the room sees them.
                await asyncio.sleep(0)

    async def _something_to_do(self) -> None:
        if not self._outcomes and not self._more:
            pause = LOOK_S if self._due_s is None else min(LOOK_S, max(0.005, self._due_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
        self._wake.clear()

    def _next(self) -> list[Outcome]:
        """The next outcomes to tell, bounded in number and bytes."""
        batch: list[Outcome] = []
        size = 0
        while self._outcomes and len(batch) < MOST:
            first = self._outcomes[0]
            size += len(first.result.body) if isinstance(first, Done) and first.result is not None else 0
            if batch and size > TELL_BYTES:
                break
            batch.append(self._outcomes.popleft())
        return batch

    def _say_silent(self, error: FaasError) -> None:
        if not self._silent:
            log.warning("the queue does not answer: background calls wait", error=error.message)
        self._silent = True

    async def _renewals(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            leases = self._held.leases()
            for start in range(0, len(leases), MOST):
                try:
                    kept = await self._queue.renew(self._node_id, leases[start : start + MOST], LEASE_S)
                except FaasError as error:
                    self._say_silent(error)
                    break
                for id, state in kept.items():
                    if state.cancel or not state.held:
                        self.on_cancel(id)

    # -- one job -------------------------------------------------------------------------------------------

    def _begin(self, turn: Turn) -> None:
        self._more = turn.more and bool(turn.jobs)
        self._due_s = turn.next_due_s
        for job in turn.jobs:
            held = self._held.add(job)
            held.task = asyncio.create_task(self._run(held), name=job.id)

    async def _run(self, held: Held) -> None:
        call = _call_of(held.job)
        settings: Settings | None = None
        try:
            target = parse_target(held.job.input.target)
            function, version = self._invoker.resolve_now(target) or await self._invoker.resolve(target)
            settings = version.settings
            reply = await self._invoker.run(function, version, call)
            result = Result(status=reply.status, headers=_pairs(reply.headers), body=await whole_body(reply))
            outcome = outcomes.replied(self._end(held, settings), result)
        except FaasError as error:
            outcome = outcomes.failed(self._end(held, settings), error, begun=call.begun)
        except asyncio.CancelledError:
            outcome = outcomes.interrupted(self._end(held, settings), begun=call.begun, stopping=self._stopping)
        except Exception as error:
            log.exception("a background call failed inside the platform", call=held.job.id)
            defect = Internal(f"{type(error).__name__} inside the platform", hint="Search the node's log for its id.")
            outcome = outcomes.failed(self._end(held, settings), defect, begun=True)
        self._ended(held, outcome)

    def _ended(self, held: Held, outcome: Outcome) -> None:
        key = held.job.function
        self._held.drop(held)
        self._outcomes.append(outcome)
        if isinstance(outcome, GiveBack):
            off_s = self._rooms.refused(key)
            # Leaving it alone ends with a look, not with the next second's.
            asyncio.get_running_loop().call_later(off_s, self._wake.set)
            self._count(key, "given_back")
        else:
            self._rooms.began(key)
            self._count(key, "retried" if isinstance(outcome, Retry) else outcome.state)
        self._wake.set()

    def _end(self, held: Held, settings: Settings | None) -> outcomes.End:
        jitter = random.random()  # noqa: S311 (spreads retries; no secret)
        return outcomes.End(held.job, self._node_id, held.began, time.time(), settings, jitter)


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
        background=True,
    )


def _pairs(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((bytes(name), bytes(value)) for name, value in headers)
