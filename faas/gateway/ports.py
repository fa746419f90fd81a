"""What the gateway needs of the floor below: one Protocol, as a worker process has another implementation."""

from __future__ import annotations

from typing import Protocol

from faas.model import Function, Version
from faas.names import Target
from faas.node.call import Call, Reply


class Runs(Protocol):
    """Finds and runs calls: `control.invoke.Invoker` in the node, `relay.RelayInvoker` in a worker."""

    def resolve_now(self, target: Target) -> tuple[Function, Version] | None:
        """What a call to `target` runs; None: `resolve` may find it. Raises NotFound with close names."""
        ...

    async def resolve(self, target: Target) -> tuple[Function, Version]:
        """Like `resolve_now`, with patience. Raises NotFound with close names."""
        ...

    async def run(self, function: Function, version: Version, call: Call) -> Reply:
        """One attempt. Raises the FaasError to answer with."""
        ...
