"""Every metric of a node, declared once. Label values are bounded: functions and versions that exist here.

Children are looked up once per label set and kept, because finding one costs more than counting.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CHILDREN_MAX = 20_000
"""Label sets remembered; beyond it the memory of old ones is dropped and they are looked up again."""


class Metrics:
    """The node's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.invocations = Counter(
            "faas_invocations",
            "Calls answered, by HTTP status and kind of start.",
            ["app", "function", "version", "code", "start"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "faas_invocation_duration_seconds",
            "From admission to the reply's head, as the node sees it.",
            ["app", "function"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.queue_wait = Histogram(
            "faas_queue_wait_seconds",
            "Waiting for a slot, starts not counted.",
            ["app", "function"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.cold_start = Histogram(
            "faas_cold_start_seconds",
            "From the need for an instance to its READY.",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.instances = Gauge("faas_instances", "Instances on this node by state.", ["state"], registry=self.registry)
        self.memory = Gauge(
            "faas_node_memory_bytes",
            "Memory that instances may use and have claimed.",
            ["kind"],
            registry=self.registry,
        )
        self.build = Info("faas_build", "Version of this node.", registry=self.registry)
        self._calls: dict[tuple[str, str, int, int, bool], tuple[Counter, Histogram]] = {}
        self._waits: dict[tuple[str, str], Histogram] = {}

    def called(self, app: str, function: str, version: int, code: int, cold: bool, seconds: float) -> None:
        """Count one answered call."""
        key = (app, function, version, code, cold)
        children = self._calls.get(key)
        if children is None:
            if len(self._calls) >= CHILDREN_MAX:
                self._calls.clear()
            children = self._calls[key] = (
                self.invocations.labels(app, function, str(version), str(code), "cold" if cold else "warm"),
                self.duration.labels(app, function),
            )
        children[0].inc()
        children[1].observe(seconds)

    def waited(self, app: str, function: str, seconds: float) -> None:
        """Count one wait for a slot."""
        key = (app, function)
        child = self._waits.get(key)
        if child is None:
            if len(self._waits) >= CHILDREN_MAX:
                self._waits.clear()
            child = self._waits[key] = self.queue_wait.labels(app, function)
        child.observe(seconds)
