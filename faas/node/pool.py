"""The instances of one version on one node, and the callers who wait for a slot. Plain and synchronous.

    take() ------------> slot of the warmest ready instance, or None
    wait() ------------> a Waiter in a bounded queue, first come first served
    slot_free() <------- an instance: hand the slot to the first waiter, else keep it on top of the free stack

The pool never starts anything: it tells `on_need` that someone waits, and the dispatcher decides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from faas.errors import FaasError, InstanceDied, TooManyRequests
from faas.model import Function, Version, VersionId
from faas.node.attempt import Attempt
from faas.node.call import Call, Reply
from faas.node.instance import Instance
from faas.policy import ahead, backoff, starting
from faas.policy.eviction import Idle

LONG_S = 0.2
"""Age in seconds from which a running call says more about a function than its calls before."""
SERVICE_WEIGHT = 0.1
"""Weight of the newest call in the smoothed service time."""


class Waiter:
    """A call waiting for a slot. Its attempt begins the moment a slot is free, and answers the same future."""

    __slots__ = ("admitted", "attempt", "call", "cold", "future", "timeout_s", "timer")

    def __init__(
        self, call: Call, future: asyncio.Future[Reply], admitted: float, timeout_s: float, cold: bool
    ) -> None:
        self.call = call
        self.future = future
        self.admitted = admitted
        self.timeout_s = timeout_s
        self.cold = cold
        """Nothing was ready when it came: its clock stands still until something is."""
        self.attempt: Attempt | None = None
        self.timer: asyncio.TimerHandle


class Pool:
    """See the module's docstring. Times are the loop's, in seconds."""

    def __init__(
        self,
        function: Function,
        version: Version,
        *,
        clock: Callable[[], float],
        begin: Callable[[Pool, Instance, Waiter], None],
        on_need: Callable[[Pool], None],
        on_dead: Callable[[Instance], None],
        on_retired: Callable[[Instance], None],
    ) -> None:
        self.id = VersionId(function.app, function.name, version.number)
        self.function = function
        self.version = version
        self.label = str(self.id)
        self.min = version.settings.min
        self.max = version.settings.max
        self.waiting_max = version.settings.waiting
        self.instances: dict[str, Instance] = {}
        self.waiters: deque[Waiter] = deque()
        self.starting = 0
        self.failures = 0
        self.retry_at = 0.0
        self.last_error: FaasError | None = None
        self.ready_since: float | None = None
        """When the pool last went from no ready instance to one."""
        self.retired_at: float | None = None
        """When the last alias left this version; None while one points here."""
        self.slots = max(1, version.settings.concurrency)
        self.service_s: float | None = None
        """Seconds a call holds its slot, smoothed; None before the first has ended."""
        self.slowest_s = 0.0
        self.ahead = 0
        """Calls that may be sent to an instance beyond its slot."""
        self._free: list[Instance] = []
        self._clock = clock
        self._begin = begin
        self._on_need = on_need
        self._on_dead = on_dead
        self._on_retired = on_retired

    def follow(self, function: Function, now: float) -> None:
        """Take over scale and aliases from the function's record."""
        settings, scale = self.version.settings, function.scale
        self.function = function
        self.min = settings.min if scale.min is None else scale.min
        self.max = settings.max if scale.max is None else scale.max
        pointed = any(self.id.number in weights for weights in function.aliases.values())
        self.retired_at = None if pointed else (self.retired_at or now)

    # -- the hot path --------------------------------------------------------------------------------------

    def take(self) -> Instance | None:
        """The most recently used instance with room, or None. The caller begins its call at once."""
        free = self._free
        while free:
            instance = free[-1]
            room = instance.room
            if room > 1:
                return instance
            free.pop()
            if room == 1:
                return instance
        return None

    def take_ahead(self) -> Instance | None:
        """A busy instance that can be sent one more quick call ahead of its answer, or None.

        Only in mode `sync`, which runs calls strictly in order: what is behind the first has not begun.
        """
        if not self.ahead or self.waiters:
            return None
        least = min(self.instances.values(), key=lambda one: len(one.calls), default=None)
        return least if least is not None and least.room > -self.ahead and least.in_order else None

    def slot_free(self, instance: Instance, seconds: float) -> None:
        """A call ended after `seconds`, so this version works: the slot goes on. Part of `Owner`."""
        self.failures = 0
        known = self.service_s
        self.service_s = seconds if known is None else known + (seconds - known) * SERVICE_WEIGHT
        self.slowest_s = ahead.slowest(self.slowest_s, seconds)
        self.ahead = ahead.ahead(self.service_s, self.slowest_s)
        self.offer(instance)

    def offer(self, instance: Instance) -> None:
        """Give the room of a ready instance to those who wait, the rest to the stack of free ones.

        It goes on top if it has served, and to the bottom if it is new: the warmest is used first.
        A waiting call begins here and now, not when its task wakes: the instance is never idle while someone waits.
        """
        if self.ready_since is None:
            self.ready_since = self._clock()
        waiters = self.waiters
        least = -self.ahead if instance.in_order else 0
        while waiters and instance.room > least:
            waiter = waiters.popleft()
            if not waiter.future.done():
                self._begin(self, instance, waiter)
        if instance.room > 0 and instance not in self._free:
            self._free.insert(len(self._free) if instance.served else 0, instance)

    # -- waiting -------------------------------------------------------------------------------------------

    def wait(self, call: Call, future: asyncio.Future[Reply], admitted: float, timeout_s: float) -> Waiter:
        """Join the queue. Raises TooManyRequests when it is full."""
        if len(self.waiters) >= self.waiting_max:
            self.waiters = deque(waiter for waiter in self.waiters if not waiter.future.done())
        if len(self.waiters) >= self.waiting_max:
            raise TooManyRequests(
                f"{self.label} has {self.waiting_max} calls waiting, its limit",
                hint="Retry later, raise `max` or `waiting`, or call it asynchronously.",
                retry_after_s=1.0,
            )
        cold = self.ready_since is None
        waiter = Waiter(call, future, admitted, timeout_s, cold)
        self.waiters.append(waiter)
        if cold or starting.is_standing(self.service_s, admitted - self.waiters[0].admitted):
            self._on_need(self)
        return waiter

    def fail_waiters(self, error: FaasError) -> None:
        waiters, self.waiters = self.waiters, deque()
        for waiter in waiters:
            if not waiter.future.done():
                waiter.future.set_exception(error)
                waiter.future.exception()

    @property
    def waiting(self) -> int:
        return sum(1 for waiter in self.waiters if not waiter.future.done())

    # -- instances come and go -----------------------------------------------------------------------------

    def add(self, instance: Instance) -> None:
        """A loaded instance joins."""
        self.instances[instance.id] = instance
        self.slots = instance.capacity
        instance.owner = self
        self.offer(instance)

    def retired(self, instance: Instance) -> None:
        """Part of `Owner`."""
        self._on_retired(instance)

    def reloaded(self, instance: Instance) -> None:
        """A new child is ready. Not yet a proof that it lives: failures are kept. Part of `Owner`."""
        self.offer(instance)

    def unready(self, instance: Instance, error: FaasError) -> None:
        """Its child died; the supervisor loads another, unless it keeps dying. Part of `Owner`."""
        self._forget_slot(instance)
        if instance.calls or instance.killed:
            return  # a call paid for it, or we did it: no loop
        self.failed(error)
        if backoff.is_loop(self.failures):
            instance.die(error)

    def hung(self, instance: Instance) -> None:
        """Its child has not answered for too long: end it when its calls have had their time, and replace it now."""
        self.failed(InstanceDied("it did not answer the node's pings, as if its process or event loop hung"))
        assert self.last_error is not None
        instance.give_up(self.last_error)
        self._forget_slot(instance)
        self._on_need(self)

    def dead(self, instance: Instance, error: FaasError) -> None:
        """Part of `Owner`."""
        self._forget_slot(instance)
        self.instances.pop(instance.id, None)
        self._on_dead(instance)
        self._on_need(self)

    def failed(self, error: FaasError) -> None:
        """A start or an instance failed: count it, and say when the next start may be tried."""
        if self.last_error is not None and self.last_error.fault != error.fault:
            self.failures = 0  # an engine that was away says nothing about the function
        self.failures += 1
        self.last_error = error
        cap_s = backoff.CAP_S if error.fault == "function" else backoff.PLATFORM_CAP_S
        self.retry_at = self._clock() + backoff.delay_s(self.failures, cap_s)

    def _forget_slot(self, instance: Instance) -> None:
        if instance in self._free:
            self._free.remove(instance)
        if not self.ready:
            self.ready_since = None

    # -- what others ask -----------------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """Instances that can run calls, busy or not."""
        return sum(1 for one in self.instances.values() if one.is_ready)

    @property
    def in_flight(self) -> int:
        return sum(len(one.calls) for one in self.instances.values())

    @property
    def free(self) -> int:
        return sum(one.room for one in self._free)

    def wants(self) -> starting.Start:
        """How many instances to start now, and why."""
        reloading = sum(1 for one in self.instances.values() if one.is_loading)
        hung = sum(1 for one in self.instances.values() if one.hung)
        return starting.decide(
            starting.Counts(
                waiting=self.waiting,
                ready=max(0, len(self.instances) - reloading - hung),
                starting=self.starting + reloading,
                slots=self.slots,
                min=0 if self.retired_at is not None else max(self.min, min(hung, 1)),
                max=self.max,
                service_s=self._service_now(),
                head_s=self._clock() - self.waiters[0].admitted if self.waiters else 0.0,
            )
        )

    def _service_now(self) -> float | None:
        """The smoothed service time, or the age of the oldest running call if that is clearly more."""
        begun = [attempt.began for one in self.instances.values() for attempt in one.calls.values()]
        oldest_s = self._clock() - min(begun) if begun else 0.0
        if self.service_s is None:
            return oldest_s or None
        return oldest_s if oldest_s > LONG_S else self.service_s

    @property
    def backing_off(self) -> bool:
        """Its starts fail, nothing is ready, and the next try is not due yet."""
        return self.retry_at > self._clock() and not self.ready

    def idle(self, now: float) -> list[Idle]:
        """Its idle instances, for the reaper and for eviction."""
        floor = 0 if self.retired_at is not None else self.min
        spare = max(0, self.ready - floor)
        return [
            Idle(one.id, self.label, now - one.idle_since, one.spec.memory, spare)
            for one in self.instances.values()
            if one.is_idle
        ]

    def states(self) -> dict[str, int]:
        """Instances by state, `starting` included."""
        counts: dict[str, int] = {"starting": self.starting} if self.starting else {}
        for one in self.instances.values():
            state = one.state.value if one.state.value != "ready" else ("busy" if one.calls else "idle")
            counts[state] = counts.get(state, 0) + 1
        return counts
