"""Takes this node out of service and back, while its process goes on.

    serving --begin--> leaving (still takes calls; tells everyone it will not) --grace--> refusing --> empty
       ^                                                                                                 |
       +---- cancel, at any time ------------------------------------------------------------------------+

`/readyz` and the heartbeat say so from the first moment, so that a balancer has gone elsewhere when calls are refused.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from faas.node.dispatcher import Dispatcher
from faas.node.starts import Starts

LOOK_S = 0.05
WHY = "this node is drained"

log = structlog.get_logger(__name__)


class Leaving:
    """An async context manager; leaving it ends its task and changes nothing else."""

    def __init__(self, dispatcher: Dispatcher, starts: Starts) -> None:
        self._dispatcher = dispatcher
        self._starts = starts
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Leaving:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def begin(self, grace_s: float) -> None:
        """Leave: calls are still taken for `grace_s` seconds. Does nothing while it leaves already."""
        if self._task is not None or self._dispatcher.closing:
            return
        self._dispatcher.leaving = True
        self._task = asyncio.create_task(self._leave(grace_s), name="leaving")
        log.info("this node leaves: no background calls from now on, others until the grace is over", grace_s=grace_s)

    def cancel(self) -> None:
        """Come back and take calls at once."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        self._dispatcher.leaving = self._dispatcher.closing = self._starts.closing = False
        for pool in self._dispatcher.pools.values():
            self._starts.need(pool)
        log.info("this node takes calls again")

    async def _leave(self, grace_s: float) -> None:
        await asyncio.sleep(grace_s)
        self._dispatcher.why = WHY
        self._dispatcher.closing = True
        # Starts go on as long as somebody who was let in waits for one, or may still call another function.
        pools = self._dispatcher.pools
        while any(pool.waiting or pool.in_flight for pool in pools.values()):  # noqa: ASYNC110  once in months
            await asyncio.sleep(LOOK_S)
        self._starts.closing = True
        for pool in list(pools.values()):
            for instance in list(pool.instances.values()):
                self._starts.retire(instance)
        while any(pool.instances for pool in pools.values()):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        log.info("this node is drained: nothing of a function runs here")
