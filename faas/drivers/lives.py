"""Start and destroy, one at a time for each instance, whoever gives up waiting: shared by all drivers.

A caller that is cancelled leaves nothing half done: its start runs on and is undone, its destroy runs on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from faas.drivers.api import InstanceSpec
from faas.errors import Conflict, Unavailable

log = logging.getLogger(__name__)

_FINISH_S = 30.0


class Lives:
    """Args: start and destroy are the driver's own, unguarded ones; destroy accepts unknown instances."""

    def __init__(
        self, start: Callable[[InstanceSpec], Awaitable[None]], destroy: Callable[[str], Awaitable[None]]
    ) -> None:
        self._start = start
        self._destroy = destroy
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._destroying: dict[str, asyncio.Task[None]] = {}
        self._others: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self, spec: InstanceSpec) -> None:
        """Run the driver's start. Cancelled, it is undone in the background.

        Raises:
            Conflict: the same instance is being started or destroyed.
            Unavailable: the driver is closing.
        """
        if self._closed:
            raise Unavailable("the driver is stopping and starts nothing")
        if spec.id in self._starting or spec.id in self._destroying:
            raise Conflict(f"instance {spec.id} is already being started or destroyed")
        task = self._hold(self._starting, spec.id, self._run(self._start(spec)), "start")
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            self._begin_destroy(spec.id)
            raise

    async def destroy(self, instance: str) -> None:
        """Run the driver's destroy after a start that is still going on; callers at once share one run."""
        await asyncio.shield(self._begin_destroy(instance))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Background work of the driver, held and looked at; `finish` waits for it."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._others.add(task)
        task.add_done_callback(self._others.discard)
        task.add_done_callback(_look_at)
        return task

    async def finish(self) -> None:
        """Wait, bounded, until nothing is half done any more."""
        self._closed = True
        if tasks := [*self._starting.values(), *self._destroying.values(), *self._others]:
            await asyncio.wait(tasks, timeout=_FINISH_S)

    def _begin_destroy(self, instance: str) -> asyncio.Task[None]:
        task = self._destroying.get(instance)
        if task is None:
            task = self._hold(self._destroying, instance, self._after_start(instance), "destroy")
        return task

    async def _after_start(self, instance: str) -> None:
        if (starting := self._starting.get(instance)) is not None:
            await asyncio.wait([starting])
        await self._destroy(instance)

    async def _run(self, work: Awaitable[None]) -> None:
        await work

    def _hold(
        self, tasks: dict[str, asyncio.Task[None]], instance: str, work: Coroutine[Any, Any, None], verb: str
    ) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=f"{verb}-{instance}")
        tasks[instance] = task
        task.add_done_callback(lambda _: tasks.pop(instance, None))
        task.add_done_callback(_look_at)
        return task


def _look_at(task: asyncio.Task[None]) -> None:
    """Whoever waits gets the exception too; this is for those who no longer do."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("driver: %s failed: %s", task.get_name(), error)
