"""The node's housekeeping, once a second: idle instances go, dead ones are found, strays are removed."""

from __future__ import annotations

import asyncio

import structlog

from faas.drivers.api import Driver
from faas.errors import FaasError, InstanceDied
from faas.node import health
from faas.node.dispatcher import RETIRED_S, Dispatcher
from faas.node.instance import Instance
from faas.node.lifecycle import State
from faas.node.starts import Starts
from faas.policy import eviction
from faas.store.tasks import end

log = structlog.get_logger(__name__)

TICK_S = 1.0
STRAYS_EVERY = 30
"""Ticks between looks for instances that nobody tracks."""
STRAY_GRACE_S = 60.0


class Reaper:
    """An async context manager around its own task."""

    def __init__(self, *, node_id: str, dispatcher: Dispatcher, starts: Starts, driver: Driver) -> None:
        self._node_id = node_id
        self._dispatcher = dispatcher
        self._starts = starts
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Reaper:
        self._task = asyncio.create_task(self._run(), name="reaper")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            try:
                self.expire()
                self.beat(ticks)
                if ticks % STRAYS_EVERY == 0:
                    await self.strays()
            except FaasError as error:
                log.warning("housekeeping skipped a round", error=error.message)
            except Exception:
                log.exception("housekeeping failed; idle instances may stay longer")

    def expire(self) -> None:
        """End instances idle past their time, and drop pools of retired versions that are empty."""
        now = self._loop.time()
        for id, pool in list(self._dispatcher.pools.items()):
            retired = pool.retired_at is not None
            limit_s = pool.version.settings.idle_s
            if pool.retired_at is not None:
                limit_s = min(limit_s, max(0.0, pool.retired_at + RETIRED_S - now))
            for name in eviction.to_expire(pool.idle(now), limit_s):
                self._starts.retire(pool.instances[name])
            unused = not pool.instances and not pool.starting and not pool.waiters
            if retired and unused and pool.retry_at <= now and now - (pool.retired_at or now) > RETIRED_S:
                del self._dispatcher.pools[id]

    def beat(self, beats: int) -> None:
        """Ask instances for signs of life; those silent for too long are ended and replaced."""
        for cell in self._starts.stems.cells():
            self._supervisor(cell, beats)
        for pool in list(self._dispatcher.pools.values()):
            for instance in list(pool.instances.values()):
                if self._supervisor(instance, beats) and not health.child_answers(instance, beats):
                    log.warning("an instance hangs and is replaced", instance=instance.id, version=pool.label)
                    pool.hung(instance)

    def _supervisor(self, instance: Instance, beats: int) -> bool:
        if instance.state is State.DEAD or health.supervisor_answers(instance, beats):
            return True
        log.warning("an instance does not answer and is replaced", instance=instance.id)
        instance.die(InstanceDied(f"the instance did not answer for {health.LIMIT_BEATS * TICK_S:g} s"))
        return False

    async def strays(self) -> None:
        """Destroy instances with our label that we do not know: left by a start that was cut off."""
        known = {one.id for one in self._dispatcher.instances()} | {one.id for one in self._starts.stems.cells()}
        for found in await self._driver.found():
            ours = found.node == self._node_id and found.id not in known
            if ours and found.age_s > STRAY_GRACE_S and not self._starts.tracks(found.id):
                log.warning("removing an instance that nobody uses", instance=found.id)
                await self._driver.destroy(found.id)
