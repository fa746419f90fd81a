"""The leader's duties, each a small coroutine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from faas.store.nodes import Nodes
from faas.store.queue.queue import Queue

FORGET_AFTER = 60
"""Ticks a dead node is remembered, so that its leases and containers are surely dealt with."""


def keep_queue(queue: Queue) -> Callable[[], Awaitable[None]]:
    """Ends leases that ran out, lets delays end, buries what is too old."""

    async def duty() -> None:
        while (await queue.reap()).more:
            pass

    return duty


def bury_nodes(nodes: Nodes, queue: Queue) -> Callable[[], Awaitable[None]]:
    """Gives back at once what dead nodes had taken, and forgets them after a while."""
    seen: dict[str, int] = {}

    async def duty() -> None:
        dead = await nodes.dead()
        for id in dead:
            seen[id] = seen.get(id, 0) + 1
            if seen[id] <= 3:  # a last take of the dying node may still arrive
                while (await queue.node_lost(id)).more:
                    pass
            if seen[id] > FORGET_AFTER:
                await nodes.leave(id)
        for id in set(seen) - set(dead):
            del seen[id]

    return duty
