"""What stands between a change and its callers, on one node: rollouts, quotas, and nodes in and out of service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from faas.control.catalog import Catalog
from faas.control.code import Code
from faas.control.drains import Drains, Leaver
from faas.control.observer import Observer
from faas.control.ports import Runner
from faas.control.quotas import Quotas
from faas.control.rollouts import Rollouts
from faas.control.steering import Steering
from faas.model import NodeInfo
from faas.store.registry import Registry
from faas.store.sightings import Sightings


@dataclass(frozen=True, slots=True)
class Releases:
    """Made once a node by `make`; `following` keeps it in step with the registry."""

    quotas: Quotas
    rollouts: Rollouts
    observer: Observer
    steering: Steering
    """`steering.drive` is a leader's duty."""
    drains: Drains

    @classmethod
    def make(
        cls,
        catalog: Catalog,
        registry: Registry,
        code: Code,
        runner: Runner,
        sightings: Sightings,
        quotas: Quotas,
        nodes: Callable[[], Awaitable[Sequence[NodeInfo]]],
        node_id: str,
    ) -> Releases:
        """
        Args:
            nodes: every node of the cluster.
        """
        rollouts = Rollouts(catalog, registry, code, runner, sightings)
        observer = Observer(node_id, sightings, rollouts.going)
        return cls(quotas, rollouts, observer, Steering(catalog, rollouts), Drains(catalog, registry, nodes))

    @asynccontextmanager
    async def following(self, catalog: Catalog, node_id: str, leaver: Leaver) -> AsyncIterator[None]:
        """Count for rollouts and do what is wanted of this node while the body runs; `observer.run` is a task's."""
        self.observer.sync()
        ends = [catalog.subscribe(lambda _: self.observer.sync()), self.drains.follow(node_id, leaver)]
        try:
            yield
        finally:
            for end in ends:
                end()
