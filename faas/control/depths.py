"""Metrics of background calls: how they end on this node and, from the node that leads, how long the queues are.

Queues belong to the cluster: if every node told their length, a sum over nodes would be wrong.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from faas.names import parse_key
from faas.store.queue.model import Depth
from faas.store.queue.reads import Reads

LOOK_EVERY = 5
"""Ticks of the leader between two looks at the queues."""
SLICE = 200
"""Functions looked at in one look besides those with waiting jobs; the others have their turn at the next ones."""
SERIES_MAX = 20_000


class QueueMetrics(Collector):
    """Plain numbers, turned into Prometheus' form when somebody asks."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._depths: dict[str, Depth] = {}
        self._seen_at = 0.0

    def count(self, function: str, outcome: str) -> None:
        """One attempt of APP/NAME ended: `succeeded`, `failed`, `dead`, `cancelled`, `retried` or `given_back`."""
        key = (function, outcome)
        if key not in self._counts and len(self._counts) >= SERIES_MAX:
            self._counts.clear()  # a scraper sees a restart
        self._counts[key] = self._counts.get(key, 0) + 1

    def show(self, depths: dict[str, Depth]) -> None:
        """The queues as they are now; what is not shown for a minute is not told any more."""
        self._depths, self._seen_at = depths, time.monotonic()

    def collect(self) -> Iterable[Metric]:
        """Part of `Collector`. Called in a thread: works on copies."""
        counter = CounterMetricFamily(
            "faas_async_attempts",
            "Attempts of background calls that ended on this node.",
            labels=["app", "function", "outcome"],
        )
        for (key, outcome), count in self._counts.copy().items():
            name = parse_key(key)
            counter.add_metric([name.app, name.name, outcome], count)
        yield counter
        yield from self._queues(self._depths if time.monotonic() - self._seen_at < 60 else {})

    @staticmethod
    def _queues(depths: dict[str, Depth]) -> Iterable[Metric]:
        labels = ["app", "function"]
        depth = GaugeMetricFamily("faas_queue_depth", "Background calls by state.", labels=[*labels, "state"])
        size = GaugeMetricFamily("faas_queue_bytes", "Bytes of unfinished background calls.", labels=labels)
        oldest = GaugeMetricFamily(
            "faas_queue_oldest_age_seconds", "Since when the first in line may begin.", labels=labels
        )
        now_ms = time.time() * 1000
        for key, one in depths.items():
            where = list(parse_key(key))
            for state in ("waiting", "delayed", "running", "dead"):
                depth.add_metric([*where, state], getattr(one, state))
            size.add_metric(where, one.bytes)
            oldest.add_metric(where, max(0.0, now_ms - one.oldest_ms) / 1000 if one.oldest_ms else 0.0)
        yield from (depth, size, oldest)


def watch_queues(
    reads: Reads, functions: Callable[[], Sequence[str]], metrics: QueueMetrics
) -> Callable[[], Awaitable[None]]:
    """A leader's duty: look at the queues now and then.

    Args:
        functions: keys of all functions.
    """
    tick = at = 0
    known: dict[str, Depth] = {}

    async def duty() -> None:
        nonlocal tick, at, known
        tick += 1
        if tick % LOOK_EVERY != 1:
            return
        every = list(functions())
        at = at % max(1, len(every))
        some = every[at : at + SLICE]
        at += SLICE
        wanted = dict.fromkeys([*known, *await reads.ready(), *some])
        exist = set(every)
        found = await reads.depth([key for key in wanted if key in exist])
        known = {key: one for key, one in found.items() if one.unfinished or one.dead}
        metrics.show(known)

    return duty
