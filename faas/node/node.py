"""A node's engine room behind one door: what the control room and the doors may ask of it.

It also is what instances report to (`Hooks`): their log lines, their calls, their sudden ends.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from faas import __version__
from faas.drivers.api import Driver, Exit
from faas.model import Function, LogLine, NodeInfo, Version, VersionId
from faas.names import FunctionName
from faas.node.capacity import Capacity
from faas.node.dispatcher import Dispatcher
from faas.node.failures import ended
from faas.node.instance import Instance
from faas.node.outgoing import Outgoing
from faas.node.starts import Starts
from faas.node.views import PoolView, Prepared
from faas.telemetry.logstore import LogStore
from faas.wire.messages import Message

log = structlog.get_logger(__name__)

CAUSE_S = 2.0
"""Seconds to wait for the driver to say why an instance ended."""


class InstanceHooks:
    """What instances report to the node."""

    def __init__(self, logs: LogStore, driver: Driver) -> None:
        self._logs = logs
        self._driver = driver
        self._causes: set[asyncio.Task[None]] = set()
        self.calls: Outgoing | None = None
        """Set once the control room stands: until then no instance runs a function."""

    def log(self, instance: Instance, call: str, level: str, time_ms: int, text: str, fields: dict[str, Any]) -> None:
        """Keep a line in the function's log. A stem cell's lines are the platform's."""
        id: VersionId | None = instance.version_id
        if id is None:
            log.info("runtime", instance=instance.id, text=text[:500])
            return
        line = LogLine(
            time_ms=time_ms, text=text, level=level, call=call, version=id.number, instance=instance.id, fields=fields
        )
        self._logs.write(id.function, line)

    def outgoing(self, instance: Instance, message: Message) -> None:
        """A frame of a call the instance makes."""
        assert self.calls is not None
        self.calls.on_frame(instance, message)

    def child_gone(self, instance: Instance) -> None:
        """Nobody waits any more for the calls its child has opened."""
        if self.calls is not None:
            self.calls.forget(instance)

    def lost(self, instance: Instance, reason: str) -> None:
        """Its supervisor is gone: ask the driver why, then let those who wait know."""
        task = asyncio.create_task(self._explain(instance, reason), name=f"cause {instance.id}")
        self._causes.add(task)
        task.add_done_callback(self._causes.discard)

    async def _explain(self, instance: Instance, reason: str) -> None:
        try:
            exit = await asyncio.wait_for(self._driver.wait(instance.id), CAUSE_S)
        except Exception:
            exit = Exit(detail=f"{reason}, and the {self._driver.name} driver cannot say why", lost=True)
        instance.die(ended(exit))


class Node:
    """Implements `faas.control.ports.Runner`."""

    def __init__(
        self,
        *,
        id: str,
        name: str,
        driver: Driver,
        dispatcher: Dispatcher,
        starts: Starts,
        capacity: Capacity,
    ) -> None:
        self.id = id
        self.name = name
        self.url = ""
        """Where calls go; known once the listener stands."""
        self.dispatcher = dispatcher
        self._starts = starts
        self._driver = driver
        self._capacity = capacity
        self._started_at = time.time()

    async def prepare(self, function: Function, version: Version) -> Prepared:
        """Start one instance of `version` here and wait until it is ready. Raises the error of its start."""
        began = time.perf_counter()
        instance = await self.dispatcher.prepare(function, version)
        start_ms = (time.perf_counter() - began) * 1000
        info = instance.info
        import_ms = info.get("import_ms", 0.0)
        return Prepared(
            handler=str(info.get("handler", ""))[:200],
            start_ms=start_ms,
            import_ms=float(import_ms) if isinstance(import_ms, int | float) else 0.0,
        )

    def pools(self, function: FunctionName) -> list[PoolView]:
        """Pools of every version of a function, newest first."""
        return [
            PoolView(
                version=pool.id.number,
                states=pool.states(),
                free=pool.free,
                waiting=pool.waiting,
                in_flight=pool.in_flight,
                failures=pool.failures,
                last_error=pool.last_error.message if pool.last_error and pool.failures else "",
            )
            for pool in self.dispatcher.pools_of(function)
        ]

    def totals(self) -> dict[str, int]:
        """Instances on this node by state."""
        counts: dict[str, int] = {}
        for pool in self.dispatcher.pools.values():
            for state, count in pool.states().items():
                counts[state] = counts.get(state, 0) + count
        stems = len(self._starts.stems.cells())
        if stems:
            counts["stem"] = stems
        return counts

    def node_info(self) -> NodeInfo:
        """What this node publishes of itself."""
        return NodeInfo(
            id=self.id,
            name=self.name,
            url=self.url,
            version=__version__,
            driver=self._driver.name,
            started_at=self._started_at,
            seen_at=time.time(),
            memory=self._capacity.total,
            memory_used=self._capacity.used,
            instances=len(self.dispatcher.instances()),
            draining=self.dispatcher.leaving or self.dispatcher.closing,
        )
