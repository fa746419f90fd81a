"""Brings calls and instances of this node together.

    run(call) -> pool.take() ------------------------------------> attempt -> Reply
                   | no slot
                   +-> pool.wait() -> starts.need(pool) -> ... -> slot ->  attempt -> Reply

One deadline: it runs from admission, and stands still until the version's first instance is ready.
"""

from __future__ import annotations

import asyncio
from functools import partial

from faas.errors import DeadlineExceeded, NotBegun, NotFound, Unavailable
from faas.model import Function, Version, VersionId
from faas.names import FunctionName
from faas.node.attempt import Attempt
from faas.node.call import Call, Reply
from faas.node.instance import Instance
from faas.node.pool import Pool, Waiter
from faas.node.starts import Starts

RETIRED_S = 30.0
"""Seconds a version stays callable and warm after the last alias left it."""


DRAIN_LOOK_S = 0.02


class Dispatcher:
    """Fills and asks the pools; `starts` makes and ends their instances. Both work on the same `pools`."""

    def __init__(self, starts: Starts) -> None:
        self._starts = starts
        self._loop = asyncio.get_running_loop()
        self.pools = starts.pools
        self.closing = False
        """No more calls are taken."""
        self.leaving = False
        """It is, or soon will be, so: nothing new should be sent here."""
        self.why = "this node is stopping"
        """Told to those who are refused."""

    # -- calls ---------------------------------------------------------------------------------------------

    async def run(self, function: Function, version: Version, call: Call) -> Reply:
        """Run one attempt of `call` on this node.

        Raises:
            TooManyRequests, NoRoom, StartFailed, CrashLoop, Unavailable: it has not begun.
            DeadlineExceeded, InstanceDied, HandlerRaised, BadReply: it has.
        """
        admitted = self._loop.time()
        pool = self.pool(function, version)
        while True:
            try:
                return await self._run(pool, call, admitted)
            except NotBegun:
                call.begun = False  # sent ahead to an instance that died before its turn

    async def _run(self, pool: Pool, call: Call, admitted: float) -> Reply:
        future: asyncio.Future[Reply] = self._loop.create_future()
        instance = (pool.take() or pool.take_ahead()) if not self.closing or call.kind == "call" else None
        if instance is not None:
            waiter = None
            attempt = self._begin(pool, instance, call, future, admitted, pool.version.settings.timeout_s)
        else:
            waiter = self._enqueue(pool, call, future, admitted)
        try:
            reply = await future
        except asyncio.CancelledError:
            begun = attempt if waiter is None else waiter.attempt
            if begun is not None:
                begun.instance.cancel(begun, "the caller went away")
            raise
        finally:
            if waiter is not None:
                waiter.timer.cancel()
        if waiter is not None:
            assert waiter.attempt is not None
            attempt = waiter.attempt
            if waiter.cold:
                reply.cold = True
                reply.start_ms = max(0.0, ((pool.ready_since or admitted) - admitted) * 1000)
        reply.queue_ms = max(0.0, (attempt.began - admitted) * 1000 - reply.start_ms)
        reply.version = pool.version.number
        if reply.stream is not None:
            reply.abandon = partial(attempt.instance.cancel, attempt)
        return reply

    def _begin(
        self, pool: Pool, instance: Instance, call: Call, future: asyncio.Future[Reply], began: float, left_s: float
    ) -> Attempt:
        call.begun = True
        attempt = instance.begin(call, future, began, int(left_s * 1000))
        attempt.timer = self._loop.call_at(began + left_s, self._deadline, pool, attempt)
        return attempt

    def _begin_waiter(self, pool: Pool, instance: Instance, waiter: Waiter) -> None:
        """Begin a call that waited, with what its one timeout has left."""
        now = self._loop.time()
        clock = max(waiter.admitted, pool.ready_since or now) if waiter.cold else waiter.admitted
        left_s = waiter.timeout_s if waiter.call.background else max(0.001, clock + waiter.timeout_s - now)
        waiter.timer.cancel()
        waiter.attempt = self._begin(pool, instance, waiter.call, waiter.future, now, left_s)

    def _deadline(self, pool: Pool, attempt: Attempt) -> None:
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
        if attempt.instance.info.get("mode") == "async":
            attempt.instance.cancel(attempt, "deadline")
        else:
            attempt.instance.overdue(attempt)

    def _enqueue(self, pool: Pool, call: Call, future: asyncio.Future[Reply], admitted: float) -> Waiter:
        # What runs here may still call others, as long as these can be started.
        if self.closing and (call.kind != "call" or self._starts.closing):
            raise Unavailable(self.why, hint="Repeat the call: another node takes it.", retry_after_s=1)
        self._starts.check(pool)
        settings = pool.version.settings
        waiter = pool.wait(call, future, admitted, settings.timeout_s)
        self._starts.watch(pool)
        limit_s = settings.start_timeout_s if waiter.cold else settings.timeout_s
        waiter.timer = self._loop.call_at(admitted + limit_s, self._waited, pool, waiter)
        return waiter

    def _waited(self, pool: Pool, waiter: Waiter) -> None:
        """The waiter's time is up, unless the pool became ready meanwhile: then its clock began there."""
        if waiter.future.done() or waiter.attempt is not None:
            return
        ready = pool.ready_since
        if waiter.cold and ready is not None and ready + waiter.timeout_s > self._loop.time():
            waiter.timer = self._loop.call_at(ready + waiter.timeout_s, self._waited, pool, waiter)
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
        if pool is not None and pool.version is not version:
            if pool.version.same_content(version):
                pool.version = version
            else:
                # Removed and pushed again: the same number, other code.
                self._drop(pool)
                pool = None
        if pool is None:
            pool = Pool(
                function,
                version,
                clock=self._loop.time,
                begin=self._begin_waiter,
                on_need=self._starts.need,
                on_dead=self._starts.dead,
                on_retired=self._starts.retire,
            )
            self.pools[id] = pool
            pool.follow(function, self._loop.time())
            self._starts.need(pool)
        return pool

    def _drop(self, pool: Pool) -> None:
        """Give up a pool whose function is gone; calls in flight end as they may."""
        del self.pools[pool.id]
        pool.max = 0
        pool.fail_waiters(NotFound(f"{pool.id.function} was removed"))
        for instance in list(pool.instances.values()):
            self._starts.retire(instance)

    async def prepare(self, function: Function, version: Version) -> Instance:
        """Make sure one instance of `version` is ready here, before an alias points at it.

        Raises the error of its start: StartFailed, InstanceDied, NoRoom, Unavailable, NotFound.
        """
        if self.closing:
            raise Unavailable(self.why, hint="Ask another node: faas nodes ls.")
        pool = self.pool(function, version)
        ready = next((one for one in pool.instances.values() if one.is_ready), None)
        return ready or await self._starts.start(pool)

    def sync(self, functions: dict[str, Function]) -> None:
        """Follow the registry: limits of pools, versions no alias points at any more, removed functions."""
        now = self._loop.time()
        for pool in list(self.pools.values()):
            function = functions.get(pool.id.function.key)
            if function is None:
                self._drop(pool)
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
        self.why = "this node is stopping"
        self.closing = self._starts.closing = True
        stopping = Unavailable(
            "this node is stopping", hint="Repeat the call: another node takes it.", retry_after_s=1.0
        )
        for pool in self.pools.values():
            pool.fail_waiters(stopping)
        end = self._loop.time() + limit_s
        # Not their futures: a streamed reply is done for its future when it has only begun. And not an event that
        # every call would have to keep for the one stop in a node's life.
        while any(one.calls for one in self.instances()) and self._loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_LOOK_S)
        for one in self.instances():
            if one.calls:  # they had their time; to drain such an instance would only wait for them again
                one.die(
                    Unavailable(
                        f"the node stopped, and this call had not ended within {limit_s:g} s",
                        hint="It had begun: repeat it only if running twice does no harm.",
                    )
                )
        await asyncio.gather(*(self._starts.end(one) for one in self.instances()), return_exceptions=True)
