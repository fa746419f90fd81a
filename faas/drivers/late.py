"""A driver that may open after the node: one whose engine was down when the node started.

```
 node starts -> engine answers?  yes -> open
                                 no  -> closed: all is refused with the engine's words --every RETRY_S--> open
```
Only for a data directory that has used this driver before: a first start without an engine is a mistake to be told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import structlog

from faas.drivers.api import Driver, Exit, Found, Inside, InstanceSpec, Usage
from faas.drivers.workshop import Workshop
from faas.errors import Unavailable

RETRY_S = 1.0
"""Seconds between tries to open."""

_log = structlog.get_logger("faas.driver")

Settle = Callable[[Driver, AsyncExitStack], Awaitable[None]]


class _Driver(Driver, Workshop, Protocol):
    """What stands behind."""


class LateDriver:
    """Passes everything on to `driver` as soon as that is open. See `faas.drivers.api.Driver`.

    Args:
        driver: not entered yet; a failed entry may be repeated.
        settle: what has to be done with the open driver before anybody else may use it; what it puts on the stack
            ends before the driver does.
        wait: enter without it when it does not answer. False: entering fails.
    """

    def __init__(self, driver: _Driver, settle: Settle, *, wait: bool) -> None:
        self._driver = driver
        self._settle = settle
        self._wait = wait
        self._stack = AsyncExitStack()
        self._trouble: Unavailable | None = Unavailable("the driver is not started")
        self._opening: asyncio.Task[None] | None = None
        self.name = driver.name
        self.capabilities = driver.capabilities
        self.uid = driver.uid

    async def __aenter__(self) -> Self:
        """Raises Unavailable when it does not answer and is not to be waited for."""
        try:
            await self._open()
        except Unavailable as trouble:
            if not self._wait:
                raise
            self._trouble = trouble
            _log.error(
                "the engine does not answer: the node starts without it, and calls get 503 until it does",
                driver=self.name,
                error=trouble.message,
                hint=trouble.hint,
            )
            self._opening = asyncio.create_task(self._keep_trying(), name="late-driver")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        self._trouble = Unavailable("the driver is stopping")
        await self._stack.aclose()

    async def _open(self) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._driver)
            await self._settle(self._driver, stack)
            self._stack = stack.pop_all()
        self.capabilities, self.uid = self._driver.capabilities, self._driver.uid
        self._trouble = None

    async def _keep_trying(self) -> None:
        while self._trouble is not None:
            await asyncio.sleep(RETRY_S)
            try:
                await self._open()
            except Unavailable as trouble:
                self._trouble = trouble
            except Exception:
                _log.exception("the driver does not open; trying again", driver=self.name)
        _log.info("the engine answers: functions can be started", driver=self.name)

    def _opened(self) -> _Driver:
        trouble = self._trouble
        if trouble is not None:
            raise Unavailable(trouble.message, hint=trouble.hint, retry_after_s=RETRY_S)
        return self._driver

    async def runtimes(self) -> list[str]:
        """Raises Unavailable while closed."""
        return await self._opened().runtimes()

    async def start(self, spec: InstanceSpec) -> Inside:
        """Raises Unavailable while closed."""
        return await self._opened().start(spec)

    async def wait(self, instance: str) -> Exit:
        """Raises Unavailable while closed."""
        return await self._opened().wait(instance)

    async def resize(self, instance: str, *, memory: int, cpu: float) -> None:
        """Raises Unavailable while closed."""
        await self._opened().resize(instance, memory=memory, cpu=cpu)

    async def destroy(self, instance: str) -> None:
        """While closed there is nothing to destroy: nothing was started, and `settle` sees to what was there before."""
        if self._trouble is None:
            await self._driver.destroy(instance)

    async def usage(self, instance: str) -> Usage | None:
        """Raises Unavailable while closed."""
        return await self._opened().usage(instance)

    async def found(self) -> list[Found]:
        """Raises Unavailable while closed."""
        return await self._opened().found()

    async def work(
        self,
        runtime: str,
        argv: Sequence[str],
        room: Path,
        *,
        env: Mapping[str, str],
        network: bool,
        shows: Sequence[Path],
        output: str,
        timeout_s: float,
    ) -> int:
        """See `Workshop`. Raises Unavailable while closed."""
        driver = self._opened()
        return await driver.work(
            runtime, argv, room, env=env, network=network, shows=shows, output=output, timeout_s=timeout_s
        )

    async def check(self) -> list[tuple[str, bool, str]]:
        """Findings of the driver; while closed, why it is."""
        trouble = self._trouble
        if trouble is not None:
            return [(self.name, False, f"{trouble.message} {trouble.hint}".strip())]
        return await self._driver.check()
