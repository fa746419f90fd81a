"""Old versions and unused bundles go, on this node's disk and in Redis. No leader: every step may be repeated.

    bundles idle for `grace_s` --> fresh records --> versions the rule lets go --> bundles nobody refers to
       (here, in Redis)                                (one guard a function)          (idle still: checked again)

A push in progress is not in any history yet; it is safe because it asked for its bundles less than `grace_s` ago.
On disk a bundle is idle when nobody has needed it either: instances of a removed function may still be ending.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import NamedTuple

import structlog

from faas.bundles import BundleStore
from faas.control.catalog import Catalog
from faas.errors import Unavailable
from faas.model import Version
from faas.policy.retention import Rule, expendable
from faas.store.blobs import Blobs
from faas.store.registry import Registry, Snapshot

_log = structlog.get_logger("faas.collect")

EVERY_S = 600.0
SETTLE_S = 30.0
"""Pause between a push and the collection after it: pushes come in flocks."""
GRACE_S = 2 * 3600.0
"""A bundle that was asked for more recently is not removed: longer than starting takes at most, in seconds."""


class Collected(NamedTuple):
    """What one run removed."""

    versions: int = 0
    local: int = 0
    """Bundles on this node's disk."""
    shared: int = 0
    """Bundles in Redis."""


class Collector:
    """Removes what nobody needs. Run one on every node.

    Args:
        in_use: digests of bundles that instances on this node were started from, whatever the records say:
            dependencies are mounted from the store.
    """

    def __init__(
        self,
        catalog: Catalog,
        registry: Registry,
        bundles: BundleStore,
        blobs: Blobs,
        in_use: Callable[[], Collection[str]],
        *,
        rule: Rule = Rule(),  # noqa: B008  immutable
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._bundles = bundles
        self._blobs = blobs
        self._in_use = in_use
        self._rule = rule
        self._grace_s = grace_s
        self._clock = clock

    async def run(self) -> None:
        """Collect every ten minutes, and soon after pushes, until cancelled."""
        pushed = asyncio.Event()
        counted = _numbers_given(self._catalog.snapshot)

        def look(snapshot: Snapshot) -> None:
            nonlocal counted
            counted, before = _numbers_given(snapshot), counted
            if counted != before:
                pushed.set()

        end = self._catalog.subscribe(look)
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(EVERY_S):
                        await pushed.wait()
                await asyncio.sleep(SETTLE_S)
                pushed.clear()
                await self._run_safely()
        finally:
            end()

    async def _run_safely(self) -> None:
        try:
            done = await self.run_once()
        except Unavailable as error:
            _log.warning("old versions and bundles stay until the next collection", error=error.message)
        except Exception:
            _log.exception("collecting old versions and bundles broke; they stay until the next collection")
        else:
            if any(done):
                _log.info("collected what nobody needs", **done._asdict())

    async def run_once(self) -> Collected:
        """One collection. To repeat it, or to run several at once, is harmless. Raises Unavailable."""
        # What is idle first, then who refers to it: a bundle that comes into use in between was touched.
        shared = await self._blobs.idle(self._grace_s)
        before = self._clock() - self._grace_s
        local = await asyncio.to_thread(self._bundles.idle, before)
        snapshot = await self._catalog.load()
        if snapshot.position == "0-0":
            return Collected()  # A Redis that has never seen a change, or has lost all: its silence proves nothing.
        versions, needed = await self._versions(snapshot)
        needed.update(self._in_use())
        going = [sha for sha in local if sha not in needed]
        removed = await asyncio.to_thread(self._sweep, going, needed, before)
        swept = await self._blobs.sweep([sha for sha in shared if sha not in needed], self._grace_s)
        return Collected(versions, removed, swept)

    def _sweep(self, going: Iterable[str], needed: Iterable[str], before: float) -> int:
        removed = self._bundles.remove_idle(going, before)
        for sha in needed:
            self._bundles.touch(sha)  # The grace of those that are not needed next time begins now.
        return removed

    async def _versions(self, snapshot: Snapshot) -> tuple[int, set[str]]:
        """Forget expendable versions; how many went, and the bundles that the others refer to."""
        forgotten, needed = 0, set[str]()
        histories = await self._registry.histories([function.id for function in snapshot.functions.values()])
        for function in snapshot.functions.values():
            history = histories[function.id]
            going = set(expendable(function, history, self._rule, self._clock()))
            # The guard fails when someone changes the record meanwhile, maybe back to one of these.
            if going and not await self._registry.forget(function, sorted(going)):
                going.clear()
            forgotten += len(going)
            needed |= _bundles_of(version for version in history if version.number not in going)
            needed |= _bundles_of(function.versions.values())
        return forgotten, needed


def _bundles_of(versions: Iterable[Version]) -> set[str]:
    return {bundle for version in versions for bundle in (version.code, version.deps) if bundle}


def _numbers_given(snapshot: Snapshot) -> int:
    return sum(function.latest for function in snapshot.functions.values())
