"""Decides and carries out starts of instances, within `max`, memory and what the engine can bear.

    need(pool)   somebody waits or `min` is not met: start what policy says, now or when a permit is free
    check(pool)  before joining the queue: a version that keeps failing answers at once, with its cause
    end(one)     drain, destroy, give the memory back

A start that had to wait for a permit is decided anew when it gets one: a burst that one instance has
meanwhile answered starts nothing more.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from faas.errors import CrashLoop, FaasError, InstanceDied, NoRoom, Unavailable
from faas.model import VersionId
from faas.node.capacity import Capacity
from faas.node.instance import Instance
from faas.node.launcher import Launcher
from faas.node.pool import Pool
from faas.node.shares import Shares
from faas.node.stems import Kind, Stems
from faas.policy import backoff, eviction, starting
from faas.policy.quota import Quota
from faas.store.tasks import end

log = structlog.get_logger(__name__)

ENGINE_STARTS = 2
"""Container starts at once: an engine serialises most of the work, and more only slows each."""
STEM_MEMORY = 256 * 1024 * 1024
ROOM_S = 5.0
"""Seconds callers of a function at zero wait for memory before they are told there is none."""
ROOM_LOOK_S = 0.2
"""Seconds between their looks for it."""
DRAIN_S = 5.0
"""Seconds an instance may take for its stop hooks."""


class Starts:
    """Holds the only references to start and stop tasks, and looks at each one's end."""

    def __init__(
        self,
        launcher: Launcher,
        capacity: Capacity,
        *,
        stems: int,
        quota_of: Callable[[str], Quota] = lambda _app: Quota(),
    ) -> None:
        self.shares = Shares(lambda: self.pools.values(), self._evict, quota_of)
        self.pools: dict[VersionId, Pool] = {}
        self._launcher = launcher
        self._capacity = capacity
        self._engine = asyncio.Semaphore(ENGINE_STARTS)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._claims: dict[str, int] = {}
        self._starting = 0
        self._delayed: set[VersionId] = set()
        self._starved: dict[VersionId, float] = {}
        """Pools that find no memory, and since when."""
        self._feeding = False
        self.closing = False
        self.stems = Stems(
            size=stems,
            launch=self._launch_stem,
            destroy=self._destroy,
            dead=self.dead,
            busy=lambda: self._starting > 0 or bool(self._starved),
        )

    # -- deciding ------------------------------------------------------------------------------------------

    def check(self, pool: Pool) -> None:
        """Raise what the last starts failed with while their back-off lasts and nothing is ready."""
        if pool.retry_at <= asyncio.get_running_loop().time() or pool.ready or pool.last_error is None:
            return
        left_s = pool.retry_at - asyncio.get_running_loop().time()
        last = pool.last_error
        if not isinstance(last, InstanceDied) or not backoff.is_loop(pool.failures):
            last.retry_after_s = left_s
            raise last.with_traceback(None)  # else every caller would make it longer
        raise CrashLoop(
            f"{pool.label} failed {pool.failures} times in a row, last: {last.message}",
            hint=last.hint or f"See `faas logs {pool.id.function}`; push a version that starts.",
            retry_after_s=left_s,
            extra=last.extra,
        )

    def need(self, pool: Pool) -> None:
        """Start what is missing; safe to call often, it counts what is starting already."""
        if self.closing:
            return
        loop = asyncio.get_running_loop()
        wanted = pool.wants()
        if not wanted.number:
            self._starved.pop(pool.id, None)
            if pool.waiters:
                self._look_again(pool, starting.TARGET_WAIT_S)
            return
        wait_s = pool.retry_at - loop.time()
        if wait_s > 0:
            self._look_again(pool, wait_s)
            return
        for _ in range(wanted.number):
            pool.starting += 1
            self._spawn(self._start_needed(pool), f"start {pool.label}")

    def watch(self, pool: Pool) -> None:
        """Somebody waits in what may be a quick queue: see in a moment whether he stands behind a long call."""
        self._look_again(pool, starting.TARGET_WAIT_S)

    def _look_again(self, pool: Pool, after_s: float) -> None:
        if pool.id not in self._delayed:
            self._delayed.add(pool.id)
            asyncio.get_running_loop().call_later(after_s, self._retry, pool)

    def _retry(self, pool: Pool) -> None:
        self._delayed.discard(pool.id)
        self.need(pool)

    async def _start_needed(self, pool: Pool) -> None:
        """One decided start. `pool.starting` counts it until the instance has joined or failed."""
        try:
            await self._start(pool, still_needed=True)
            self._starved.pop(pool.id, None)
        except FaasError as error:
            self._start_failed(pool, error)
        finally:
            pool.starting -= 1
            self.stems.poke()
        if pool.id not in self._starved:
            self.need(pool)  # somebody still waits, or `min` is still not met

    def _start_failed(self, pool: Pool, error: FaasError) -> None:
        if isinstance(error, NoRoom):
            self._starve(pool, error)
            return
        if self._is_dropped(pool):
            return
        pool.failed(error)
        log.warning("instance did not start", version=pool.label, failures=pool.failures, error=error.message)
        if not pool.ready and (not isinstance(error, Unavailable) or backoff.is_loop(pool.failures)):
            pool.fail_waiters(error)

    def _starve(self, pool: Pool, error: NoRoom) -> None:
        """Try again soon: an instance that turns idle can be evicted, and nobody tells. In the end, give up.

        Given up are those who wait for a first instance; a pool that has one serves them later.
        """
        now = asyncio.get_running_loop().time()
        since = self._starved.setdefault(pool.id, now)
        late = now - since >= ROOM_S
        if late and not pool.ready:
            del self._starved[pool.id]
            pool.fail_waiters(error)
        self._look_again(pool, ROOM_S if late else ROOM_LOOK_S)

    def _feed_starved(self) -> None:
        """Memory became free: pools that found none decide again, and so do those that lack their `min`."""
        self._feeding = False
        for pool in list(self.pools.values()):
            if pool.id in self._starved or pool.min:
                self.need(pool)
        self.stems.poke()

    # -- doing ---------------------------------------------------------------------------------------------

    async def start(self, pool: Pool) -> Instance:
        """Start one instance of `pool` now and return it ready. Raises the cause when that fails."""
        pool.starting += 1
        try:
            instance = await self._start(pool, still_needed=False)
        finally:
            pool.starting -= 1
            self.stems.poke()
        assert instance is not None
        return instance

    async def _start(self, pool: Pool, *, still_needed: bool) -> Instance | None:
        with self.shares.claim(pool):
            return await self._start_claimed(pool, still_needed=still_needed)

    async def _start_claimed(self, pool: Pool, *, still_needed: bool) -> Instance | None:
        settings = pool.version.settings
        kind = Kind(settings.runtime, settings.network)
        self._starting += 1
        try:
            cell = self.stems.take(kind) if self._launcher.stem_fits(pool.version) else None
            if cell is not None:
                self._reclaim(cell, kind, pool)
            else:
                async with self._engine:
                    if still_needed and not self._still_needed(pool):
                        return None
                    cell = await self._launch_for(pool, kind)
            try:
                await self._launcher.specialise(cell, pool.function, pool.version)
            except BaseException:
                self._unclaim(cell.id)
                raise
        finally:
            self._starting -= 1
        if self.closing or self._is_dropped(pool):
            await self._destroy(cell)
            raise Unavailable("this node is stopping" if self.closing else f"{pool.id.function} was removed meanwhile")
        pool.add(cell)
        return cell

    def _is_dropped(self, pool: Pool) -> bool:
        """Its function is gone: what joined it now would belong to nobody."""
        return self.pools.get(pool.id) is not pool

    def _still_needed(self, pool: Pool) -> bool:
        """Decide again without counting the one that asks."""
        pool.starting -= 1
        try:
            return pool.wants().number > 0
        finally:
            pool.starting += 1

    async def _launch_for(self, pool: Pool, kind: Kind) -> Instance:
        memory = pool.version.settings.memory
        self._make_room(memory, pool)
        try:
            instance = await self._launcher.launch(runtime=kind.runtime, network=kind.network, version=pool.version)
        except BaseException:
            self._capacity.give(memory)
            raise
        self._claims[instance.id] = memory
        return instance

    async def _launch_stem(self, kind: Kind) -> Instance:
        if not self._capacity.take(STEM_MEMORY):
            raise NoRoom("the node's memory is taken by instances")
        try:
            async with self._engine:
                instance = await self._launcher.launch(runtime=kind.runtime, network=kind.network)
        except BaseException:
            self._capacity.give(STEM_MEMORY)
            raise
        self._claims[instance.id] = STEM_MEMORY
        return instance

    # -- memory --------------------------------------------------------------------------------------------

    def _reclaim(self, cell: Instance, kind: Kind, pool: Pool) -> None:
        """A stem cell's claim becomes that of the function it turns into; without room it is a stem cell again."""
        memory = pool.version.settings.memory
        more = memory - self._claims[cell.id]
        try:
            if more > 0:
                self._make_room(more, pool)
        except NoRoom:
            self.stems.put(kind, cell)
            raise
        self._claims[cell.id] = memory
        if more < 0:
            self._give(-more)

    def _unclaim(self, id: str) -> None:
        self._give(self._claims.pop(id, 0))

    def _give(self, size: int) -> None:
        self._capacity.give(size)
        if size and not self._feeding:
            self._feeding = True
            asyncio.get_running_loop().call_soon(self._feed_starved)

    def _make_room(self, memory: int, pool: Pool) -> None:
        """Claim `memory`; stem cells and then the coldest idle instances of other functions give way to it."""
        if self._capacity.take(memory):
            return
        now = asyncio.get_running_loop().time()
        cells = self.stems.cells()
        idle = [eviction.Idle(one.id, "stem cells", math.inf, self._claims[one.id], len(cells)) for one in cells]
        idle += [one for other in self.pools.values() for one in other.idle(now)]
        victims = eviction.to_evict(idle, memory - self._capacity.free, pool.label)
        if victims:
            self._evict(victims)
        if not self._capacity.take(memory):
            whole = pool.version.settings.memory
            raise NoRoom(
                f"no memory left on this node for {pool.label}: it needs {whole >> 20} MiB, "
                f"{self._capacity.free >> 20} of {self._capacity.total >> 20} MiB are free",
                hint="Add a node, raise `faas up --memory`, or lower the functions' `memory`.",
                retry_after_s=1.0,
            )

    def _evict(self, ids: list[str]) -> None:
        known = {cell.id: cell for cell in self.stems.cells()}
        for pool in self.pools.values():
            known |= pool.instances
        for id in ids:
            self._unclaim(id)
            known[id].die(Unavailable("evicted: another function needed the memory"))

    # -- ending --------------------------------------------------------------------------------------------

    def dead(self, instance: Instance) -> None:
        """An instance is gone: remove what is left of it."""
        self._spawn(self._destroy(instance), f"destroy {instance.id}")

    def retire(self, instance: Instance) -> None:
        """No more calls; it ends when those it has are done."""
        instance.retiring = True
        if not instance.calls:
            self._spawn(self.end(instance), f"end {instance.id}")

    async def end(self, instance: Instance) -> None:
        """Drain and destroy."""
        await instance.drain(DRAIN_S)
        instance.die(Unavailable("the instance was stopped"))
        await self._destroy(instance)

    async def _destroy(self, instance: Instance) -> None:
        await self._launcher.destroy(instance)
        self._unclaim(instance.id)

    @property
    def used(self) -> int:
        """Bytes claimed by instances, stem cells included."""
        return self._capacity.used

    def tracks(self, id: str) -> bool:
        """True while the instance holds memory: it runs, or is being started or removed."""
        return id in self._claims

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the pools failed; this is a defect", task=task.get_name(), exc_info=error)

    async def close(self, limit_s: float) -> None:
        """Wait for running starts and stops, at most `limit_s`, then cancel them."""
        self.closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit_s)
        for task in list(self._tasks):
            await end(task)
