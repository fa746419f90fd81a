"""What one node does for all: under the leader lease, about once a second.

hold the lease > reap the queue (expired leases, delays, age) > leases of nodes that are known to be dead
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import structlog

from faas.errors import FaasError
from faas.store.leases import Lease
from faas.store.tasks import end

log = structlog.get_logger(__name__)

TICK_S = 1.0

Duty = Callable[[], Awaitable[None]]


class Leader:
    """An async context manager around its task. A duty that fails is tried again at the next tick."""

    def __init__(self, lease: Lease, duties: Sequence[Duty]) -> None:
        self._lease = lease
        self._duties = duties
        self._task: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        """True while this node holds the lease."""
        return self._lease.held

    async def __aenter__(self) -> Leader:
        self._task = asyncio.create_task(self._run(), name="leader")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        await end(self._task)
        with contextlib.suppress(FaasError, TimeoutError):
            await asyncio.wait_for(self._lease.drop(), 2.0)

    async def _run(self) -> None:
        led = False
        while True:
            try:
                leads = await self._lease.hold()
                if leads != led:
                    log.info("this node leads now" if leads else "another node leads now")
                led = leads
                for duty in self._duties if leads else ():
                    if self._lease.held:
                        await duty()
            except FaasError as error:
                log.debug("a leader's duty waits", error=error.message)
            except Exception:
                log.exception("a leader's duty failed; it is tried again")
            await asyncio.sleep(TICK_S)
