"""Which nodes are to take no calls: wanted here, by any node, for any node; each follows what is wanted of itself.

The wish is a record of the registry, so it outlives a restart of the node it is about.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
import structlog

from faas.control.catalog import Catalog
from faas.errors import Conflict, Invalid, NotFound, did_you_mean
from faas.model import NodeInfo
from faas.store import keys
from faas.store.registry import Change, Registry, Snapshot

GRACE_S = 10.0
"""Seconds a node that leaves still takes calls: longer than a balancer needs to see that it is not ready."""
GRACE_MAX_S = 3600.0

_log = structlog.get_logger("faas.nodes")


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a node that is to be drained."""

    grace_s: float
    at: float
    by: str


class Leaver(Protocol):
    """What can take this node out of service and back."""

    def begin(self, grace_s: float) -> None: ...

    def cancel(self) -> None: ...


class Drains:
    """Sets and follows wishes."""

    def __init__(
        self,
        catalog: Catalog,
        registry: Registry,
        nodes: Callable[[], Awaitable[Sequence[NodeInfo]]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            nodes: every node of the cluster.
        """
        self._catalog = catalog
        self._registry = registry
        self._nodes = nodes
        self._clock = clock

    def follow(self, node_id: str, leaver: Leaver) -> Callable[[], None]:
        """Do what is wanted of this node, now and from now on. Returns what ends it."""

        def look(snapshot: Snapshot) -> None:
            wish = _wish(snapshot, node_id)
            leaver.begin(wish.grace_s) if wish is not None else leaver.cancel()

        look(self._catalog.snapshot)
        return self._catalog.subscribe(look)

    async def drain(self, handle: str, grace_s: float, by: str) -> NodeInfo:
        """Have a node, by name or id, finish what it has and take nothing new after `grace_s` seconds.

        Raises:
            NotFound: there is no such node. Conflict: two have that name. Invalid: the grace is too long.
            Unavailable: Redis does not answer.
        """
        if not 0 <= grace_s <= GRACE_MAX_S:
            raise Invalid(f"grace = {grace_s:g} s: it is from 0 s to 1 h")
        node = await self._find(handle)
        payload = msgspec.json.encode(Wish(grace_s=grace_s, at=self._clock(), by=by))
        await self._write(Change(keys.NODE + node.id, payload))
        return msgspec.structs.replace(node, draining=True)

    async def undrain(self, handle: str) -> NodeInfo:
        """Have it take calls again. Raises like `drain`."""
        node = await self._find(handle)
        await self._write(Change(keys.NODE + node.id, None))
        return msgspec.structs.replace(node, draining=False)

    async def _write(self, change: Change) -> None:
        await self._registry.apply(records=[change])
        wanted = change.payload

        def shows(snapshot: Snapshot) -> bool:
            record = snapshot.others.get(change.field)
            return (record.payload if record else None) == wanted

        await self._catalog.until(shows)

    async def _find(self, handle: str) -> NodeInfo:
        nodes = await self._nodes()
        found = [node for node in nodes if handle in (node.id, node.name)]
        if not found:
            hint = did_you_mean(handle, [node.name for node in nodes]) or "see: faas nodes ls"
            raise NotFound(f'there is no node "{handle}"', hint=hint)
        if len(found) > 1:
            ids = ", ".join(node.id for node in found)
            raise Conflict(f'several nodes are called "{handle}": {ids}', hint="Name one by its id.")
        return found[0]


def _wish(snapshot: Snapshot, node_id: str) -> Wish | None:
    record = snapshot.others.get(keys.NODE + node_id)
    if record is None:
        return None
    try:
        return msgspec.json.decode(record.payload, type=Wish)
    except msgspec.MsgspecError:
        _log.exception("what is wanted of this node is not readable; it goes on", node=node_id)
        return None
