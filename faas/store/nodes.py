"""Nodes that are alive: each keeps a key of its own that expires, so Redis' clock decides and no node's."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from faas.model import NodeInfo
from faas.store import keys
from faas.store.connection import translated

ALIVE_MS = 15_000
"""Milliseconds without a heartbeat after which a node counts as dead."""


class Nodes:
    """Heartbeats of the cluster."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def beat(self, info: NodeInfo) -> None:
        """Say that this node lives. Raises Unavailable when Redis does not answer."""
        data = msgspec.json.encode(info)
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(keys.node(info.id), data, px=ALIVE_MS)
                pipe.hset(keys.NODES, info.id, data)
                await pipe.execute()

    async def leave(self, id: str) -> None:
        """This node stopped in good order."""
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(keys.node(id))
                pipe.hdel(keys.NODES, id)
                await pipe.execute()

    async def alive(self) -> list[NodeInfo]:
        """Nodes whose heartbeat has not expired, by name."""
        with translated():
            known = await self._known()
            if not known:
                return []
            found = await self._redis.mget([keys.node(id) for id in known])
        nodes = [msgspec.json.decode(data, type=NodeInfo) for data in found if data is not None]
        return sorted(nodes, key=lambda node: (node.name, node.id))

    async def _known(self) -> list[str]:
        return [str(field, "ascii") for field in await self._redis.hkeys(keys.NODES)]  # type: ignore[arg-type]

    async def dead(self) -> list[str]:
        """Ids of nodes that once were here and let their heartbeat expire."""
        alive = {node.id for node in await self.alive()}
        with translated():
            known = await self._known()
        return [id for id in known if id not in alive]
