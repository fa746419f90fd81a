"""What an app may use, and whether one more fits. Pure."""

from __future__ import annotations

import msgspec

from faas.units import show_size


class Quota(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of an app; None: none."""

    instances: int | None = None
    """Instances of all its functions together, on each node."""
    memory: int | None = None
    """Bytes of their limits together, on each node."""
    queue: int | None = None
    """Unfinished background calls of all its functions together, in the cluster."""
    rps: float | None = None
    """Calls a second in the cluster, about: each node grants its share."""

    @property
    def empty(self) -> bool:
        return self == Quota()


class Use(msgspec.Struct, frozen=True):
    """What an app has on one node; `memory` in bytes."""

    instances: int
    memory: int


def excess(quota: Quota, use: Use, memory: int) -> str:
    """Which limit one more instance of `memory` bytes would exceed; empty: it fits."""
    instances, size = missing(quota, use, memory)
    if instances:
        return f"{use.instances} of {quota.instances} instances"
    return f"{show_size(use.memory)} of {show_size(quota.memory or 0)} memory" if size else ""


def missing(quota: Quota, use: Use, memory: int) -> tuple[int, int]:
    """Instances and bytes that must go before one more instance of `memory` bytes fits."""
    instances = 0 if quota.instances is None else max(0, use.instances + 1 - quota.instances)
    size = 0 if quota.memory is None else max(0, use.memory + memory - quota.memory)
    return instances, size


def share(rps: float, nodes: int) -> float:
    """Calls a second that one of `nodes` nodes grants."""
    return rps / max(1, nodes)
