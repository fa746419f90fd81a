"""Brings calls and instances of this node together.

    run(call) -> pool.take() ------------------------------------> attempt -> Reply
                   | no slot
                   +-> pool.wait() -> starts.need(pool) -> ... -> slot ->  attempt -> Reply

One deadline: it runs from admission, and stands still until the version's first instance is ready.
"""

from __future__ import annotations

import asyncio

from faas.errors import DeadlineExceeded, NotFound, Unavailable
from faas.model import Function, Version, VersionId
from faas.names import FunctionName
from faas.node.attempt import Attempt
from faas.node.call import Call, Reply
from faas.node.instance import Instance
from faas.node.pool import Pool, Waiter
from faas.node.starts import Starts

RETIRED_S = 30.0
"""Seconds a version stays callable and warm after the last alias left it."""


class Dispatcher:
    """Fills and asks the pools; `starts` makes and ends their instances. Both work on the same `pools`."""

    def __init__(self, starts: Starts) -> None:
        self._starts = starts
        self._loop = asyncio.get_running_loop()
        self.pools = starts.pools
        self.closing = False

    # -- calls ---------------------------------------------------------------------------------------------

    async def run(self, function: Function, version: Version, call: Call) -> Reply:
        """Run one attempt of `call` on this node.

        Raises:
            TooManyRequests, NoRoom, StartFailed, CrashLoop, Unavailable: it has not begun.
            DeadlineExceeded, InstanceDied, HandlerRaised, BadReply: it has.
        """
        admitted = self._loop.time()
        pool = self.pool(function, version)
        timeout_s = version.settings.timeout_s
        instance = pool.take() if not self.closing else None
        if instance is not None:
            reply = await self._attempt(pool, instance, call, admitted, timeout_s)
            reply.version = version.number
            return reply
        instance, deadline, cold = await self._wait(pool, admitted, timeout_s)
        begun = self._loop.time()
        reply = await self._attempt(pool, instance, call, begun, deadline - begun)
        reply.version = version.number
        reply.cold = cold
        waited_ms = (begun - admitted) * 1000
        ready = pool.ready_since
        reply.start_ms = (ready - admitted) * 1000 if cold and ready is not None and ready > admitted else 0.0
        reply.queue_ms = max(0.0, waited_ms - reply.start_ms)
        return reply

    async def _attempt(self, pool: Pool, instance: Instance, call: Call, begun: float, left_s: float) -> Reply:
        attempt = instance.begin(call, int(left_s * 1000))
        attempt.timer = self._loop.call_at(begun + left_s, self._deadline, pool, instance, attempt)
        try:
            reply = await attempt.future
        except asyncio.CancelledError:
            instance.cancel(attempt, "the caller went away")
            raise
        if reply.stream is not None:
            reply.abandon = lambda reason: instance.cancel(attempt, reason)
        return reply

    def _deadline(self, pool: Pool, instance: Instance, attempt: Attempt) -> None:
        """The answer is 504 now; the handler may still be at it, so its slot is taken back by force if need be."""
        if attempt.ended:
            return
        seconds = pool.version.settings.timeout_s
        attempt.answer_error(
            DeadlineExceeded(
                f"{pool.label} did not finish within its timeout of {seconds:g} s",
                hint="Raise `timeout`, or do the work in an asynchronous call.",
            )
        )
        if instance.info.get("mode") == "async":
            instance.cancel(attempt, "deadline")
        else:
            instance.overdue(attempt)

    async def _wait(self, pool: Pool, admitted: float, timeout_s: float) -> tuple[Instance, float, bool]:
        """A slot, the deadline, and whether the wait was a cold start."""
        cold = pool.ready == 0
        waiter = self._enqueue(pool)
        limit_s = pool.version.settings.start_timeout_s if cold else timeout_s
        waiter.timer = self._loop.call_at(admitted + limit_s, self._waited, pool, waiter, timeout_s)
        try:
            instance = await waiter.future
        except asyncio.CancelledError:
            pool.leave(waiter)
            raise
        finally:
            waiter.timer.cancel()
        instance.reserved -= 1
        began = max(admitted, pool.ready_since or admitted) if cold else admitted
        return instance, began + timeout_s, cold

    def _enqueue(self, pool: Pool) -> Waiter:
        if self.closing:
            raise Unavailable(
                "this node is stopping", hint="Repeat the call: another node takes it.", retry_after_s=1.0
            )
        self._starts.check(pool)
        return pool.wait()

    def _waited(self, pool: Pool, waiter: Waiter, timeout_s: float) -> None:
        """The waiter's time is up, unless the pool became ready meanwhile: then its clock began there."""
        if waiter.future.done():
            return
        ready = pool.ready_since
        if ready is not None and ready + timeout_s > self._loop.time():
            waiter.timer = self._loop.call_at(ready + timeout_s, self._waited, pool, waiter, timeout_s)
            return
        settings = pool.version.settings
        if ready is None:
            error = DeadlineExceeded(
                f"no instance of {pool.label} was ready within start_timeout ({settings.start_timeout_s:g} s)",
                hint="Raise `start_timeout`, or look at `faas logs` for what its start is waiting for.",
            )
        else:
            error = DeadlineExceeded(
                f"{pool.label} had no free instance within its timeout of {settings.timeout_s:g} s",
                hint=f"Raise `max` (now {pool.max}) or `concurrency`, or call it asynchronously.",
            )
        waiter.future.set_exception(error)
        waiter.future.exception()

    # -- pools ---------------------------------------------------------------------------------------------

    def pool(self, function: Function, version: Version) -> Pool:
        """The pool of this version, made at first use."""
        id = VersionId(function.app, function.name, version.number)
        pool = self.pools.get(id)
        if pool is None:
            pool = Pool(
                function,
                version,
                clock=self._loop.time,
                on_need=self._starts.need,
                on_dead=self._starts.dead,
            )
            self.pools[id] = pool
            pool.follow(function, self._loop.time())
            self._starts.need(pool)
        return pool

    async def prepare(self, function: Function, version: Version) -> Instance:
        """Make sure one instance of `version` is ready here, before an alias points at it.

        Raises the error of its start: StartFailed, InstanceDied, NoRoom, Unavailable, NotFound.
        """
        pool = self.pool(function, version)
        ready = next((one for one in pool.instances.values() if one.is_ready), None)
        return ready or await self._starts.start(pool)

    def sync(self, functions: dict[str, Function]) -> None:
        """Follow the registry: limits of pools, versions no alias points at any more, removed functions."""
        now = self._loop.time()
        for id, pool in list(self.pools.items()):
            function = functions.get(id.function.key)
            if function is None:
                pool.fail_waiters(NotFound(f"{id.function} was removed"))
                pool.max = 0
                pool.retired_at = now - RETIRED_S
                continue
            pool.follow(function, now)
            self._starts.need(pool)
        for function in functions.values():
            live = function.live()
            if live is not None and (function.scale.min or live.settings.min):
                self.pool(function, live)

    def pools_of(self, function: FunctionName) -> list[Pool]:
        """Pools of every version of a function, newest first."""
        found = [pool for id, pool in self.pools.items() if id.function == function]
        return sorted(found, key=lambda pool: -pool.id.number)

    def instances(self) -> list[Instance]:
        """Every instance that belongs to a pool."""
        return [one for pool in self.pools.values() for one in pool.instances.values()]

    # -- stopping ------------------------------------------------------------------------------------------

    async def drain(self, limit_s: float) -> None:
        """Take no more calls, let those in flight end within `limit_s`, then end every instance."""
        self.closing = self._starts.closing = True
        stopping = Unavailable(
            "this node is stopping", hint="Repeat the call: another node takes it.", retry_after_s=1.0
        )
        for pool in self.pools.values():
            pool.fail_waiters(stopping)
        running = [attempt.future for one in self.instances() for attempt in one.calls.values()]
        if running:
            await asyncio.wait(running, timeout=limit_s)
        await asyncio.gather(*(self._starts.end(one) for one in self.instances()), return_exceptions=True)
