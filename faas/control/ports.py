"""What the control room needs of the node: one Protocol, so that it can be scripted in tests."""

from __future__ import annotations

from typing import Protocol

from faas.model import Function, NodeInfo, Version
from faas.names import FunctionName
from faas.node.views import PoolView, Prepared

__all__ = ["PoolView", "Prepared", "Runner"]


class Runner(Protocol):
    """The node's dispatcher as the control room sees it."""

    async def prepare(self, function: Function, version: Version) -> Prepared:
        """Start one instance of `version` here and wait until it is ready.

        Raises:
            StartFailed: the code did not load; `extra["traceback"]` is the handler's.
            CrashLoop, NoRoom, Unavailable: it cannot be started now.
            NotFound: this node has no such runtime.
        """
        ...

    def pools(self, function: FunctionName) -> list[PoolView]:
        """Its pools on this node, in no order; empty when nothing of it runs."""
        ...

    def totals(self) -> dict[str, int]:
        """Instances on this node by state."""
        ...

    def node_info(self) -> NodeInfo:
        """What this node publishes of itself."""
        ...
