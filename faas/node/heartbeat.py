"""Tells the cluster that this node lives, and what room it has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from faas.errors import FaasError
from faas.model import NodeInfo
from faas.store.nodes import Nodes
from faas.store.tasks import end

log = structlog.get_logger(__name__)

BEAT_S = 2.0


class Heartbeat:
    """An async context manager around its own task. Leaving in good order takes the node off the list."""

    def __init__(
        self,
        nodes: Nodes,
        info: Callable[[], NodeInfo],
        clean: Callable[[], Awaitable[None]],
        census: Callable[[int], None] = lambda _serving: None,
    ) -> None:
        """
        Args:
            clean: removes what dead nodes left on this node's engine; called now and then.
            census: told now and then how many nodes take calls.
        """
        self._census = census
        self._nodes = nodes
        self._info = info
        self._clean = clean
        self._task: asyncio.Task[None] | None = None
        self._silent = False

    async def __aenter__(self) -> Heartbeat:
        await self._beat()
        self._task = asyncio.create_task(self._run(), name="heartbeat")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            await end(self._task)
        with contextlib.suppress(FaasError, TimeoutError):
            await asyncio.wait_for(self._nodes.leave(self._info().id), 2.0)

    async def _run(self) -> None:
        beats = 0
        while True:
            await asyncio.sleep(BEAT_S)
            await self._beat()
            beats += 1
            if beats % 15 == 0:
                try:
                    await self._clean()
                except FaasError as error:
                    log.debug("cleaning after dead nodes skipped", error=error.message)

    async def _beat(self) -> None:
        try:
            await self._nodes.beat(self._info())
            self._census(sum(not node.draining for node in await self._nodes.alive()))
        except FaasError as error:
            if not self._silent:
                log.warning(
                    "Redis does not answer: warm functions keep running, changes and async calls wait",
                    error=error.message,
                )
            self._silent = True
            return
        if self._silent:
            log.info("Redis answers again")
        self._silent = False
