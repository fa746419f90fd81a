"""The engine as an operator sees it: containers of one node, and how to kill one behind the node's back."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import docker


class Container(NamedTuple):
    """One container of a node."""

    id: str
    instance: str
    state: str
    """The engine's word: `created`, `running`, `exited`."""


async def containers(node_id: str, *, running_only: bool = False) -> list[Container]:
    """What the engine has of this node."""
    return await asyncio.to_thread(_containers, node_id, running_only)


async def instances(node_id: str) -> set[str]:
    """Ids of the node's instances whose container runs."""
    return {one.instance for one in await containers(node_id, running_only=True)}


async def kill(instance: str) -> None:
    """`docker kill` of an instance's container."""
    await asyncio.to_thread(_kill, instance)


async def created(node_id: str, since: float, until: float) -> int:
    """How many containers the node has created between two moments (Unix seconds)."""
    return await asyncio.to_thread(_created, node_id, since, until)


def _containers(node_id: str, running_only: bool) -> list[Container]:
    client = docker.from_env(timeout=20)
    try:
        rows = client.api.containers(all=not running_only, filters={"label": ["faas=1", f"faas.node={node_id}"]})
    finally:
        client.close()
    return [Container(row["Id"], row["Labels"]["faas.instance"], row["State"]) for row in rows]


def _kill(instance: str) -> None:
    client = docker.from_env(timeout=20)
    try:
        client.api.kill(f"faas-{instance}")
    finally:
        client.close()


def _created(node_id: str, since: float, until: float) -> int:
    client = docker.from_env(timeout=20)
    try:
        wanted = {"type": "container", "event": "create", "label": f"faas.node={node_id}"}
        # The engine counts in whole seconds and ends a stream only for an `until` that has come.
        return sum(1 for _ in client.api.events(since=int(since), until=int(until), filters=wanted, decode=True))
    finally:
        client.close()
