"""Every metric of a node, declared once. Label values are bounded: functions and versions that exist here.

What every call counts is kept in plain numbers and turned into Prometheus' form when it is scraped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate, islice
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SERIES_MAX = 20_000
"""Label sets remembered; beyond it the oldest half is dropped, which a scraper sees as a counter's restart."""


class _Series:
    """Count, sum and buckets of one label set: plain numbers, because a call pays for counting."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.buckets = [0] * (len(BUCKETS_S) + 1)

    def observe(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1

    def cumulated(self) -> list[tuple[str, float]]:
        names = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
        return list(zip(names, accumulate(self.buckets), strict=True))


class _Calls(Collector):
    """The metrics of calls, turned into Prometheus' form when somebody asks."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, int, int, bool], int] = {}
        self.durations: dict[tuple[str, str], _Series] = {}
        self.waits: dict[tuple[str, str], _Series] = {}

    def collect(self) -> Iterable[Metric]:
        """Part of `Collector`. Called in a thread: works on copies."""
        labels = ["app", "function", "version", "code", "start"]
        counter = CounterMetricFamily("faas_invocations", "Calls answered, by HTTP status and start.", labels=labels)
        for (app, function, version, code, cold), count in self.counts.copy().items():
            counter.add_metric([app, function, str(version), str(code), "cold" if cold else "warm"], count)
        yield counter
        for name, about, series in (
            ("faas_invocation_duration_seconds", "From admission to the reply's head.", self.durations),
            ("faas_queue_wait_seconds", "Waiting for a slot, starts not counted.", self.waits),
        ):
            histogram = HistogramMetricFamily(name, about, labels=["app", "function"])
            for key, one in series.copy().items():
                histogram.add_metric(key, one.cumulated(), one.total)
            yield histogram


class Metrics:
    """The node's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = _Calls()
        self.registry.register(self._calls)
        self.cold_start = Histogram(
            "faas_cold_start_seconds",
            "From the need for an instance to its READY.",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.instances = Gauge("faas_instances", "Instances on this node by state.", ["state"], registry=self.registry)
        self.memory = Gauge(
            "faas_node_memory_bytes", "Memory instances may use and have claimed.", ["kind"], registry=self.registry
        )
        self.build = Info("faas_build", "Version of this node.", registry=self.registry)

    def called(self, app: str, function: str, version: int, code: int, cold: bool, seconds: float) -> None:
        """Count one answered call."""
        counts = self._calls.counts
        key = (app, function, version, code, cold)
        known = counts.get(key)
        if known is None and len(counts) >= SERIES_MAX:
            _halve(counts)
        counts[key] = (known or 0) + 1
        _series(self._calls.durations, app, function).observe(seconds)

    def waited(self, app: str, function: str, seconds: float) -> None:
        """Count one wait for a slot."""
        _series(self._calls.waits, app, function).observe(seconds)


def _series(all_series: dict[tuple[str, str], _Series], app: str, function: str) -> _Series:
    series = all_series.get((app, function))
    if series is None:
        if len(all_series) >= SERIES_MAX:
            _halve(all_series)
        series = all_series[app, function] = _Series()
    return series


def _halve(series: dict[Any, Any]) -> None:
    for key in list(islice(series, len(series) // 2)):
        del series[key]
