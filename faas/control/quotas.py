"""Limits of apps: set by admins, kept in the registry, enforced by each node from memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import msgspec
import structlog

from faas.control.catalog import Catalog
from faas.errors import Invalid, TooManyRequests
from faas.policy.buckets import Buckets
from faas.policy.quota import Quota, share
from faas.store import keys
from faas.store.records import Record
from faas.store.registry import Change, Registry, Snapshot
from faas.units import show_size

_LEAST_MEMORY = 16 * 1024 * 1024
_MOST = 10_000_000

_log = structlog.get_logger("faas.quota")


class Quotas:
    """The quotas of all apps, as the catalog has them."""

    def __init__(
        self,
        catalog: Catalog,
        registry: Registry,
        *,
        rates: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            rates: grant calls a second here; False in a node's HTTP processes: the node itself does.
        """
        self._rates = rates
        self._catalog = catalog
        self._registry = registry
        self._clock = clock
        self._records: dict[str, Record] = {}
        self._known: dict[str, Quota] = {}
        self._buckets = Buckets()
        self._nodes = 1
        self._follow(catalog.snapshot)
        catalog.subscribe(self._follow)

    def of(self, app: str) -> Quota:
        """The app's quota; an empty one when it has none."""
        return self._known.get(app, _NONE)

    def queue(self, app: str) -> int:
        """Most unfinished background calls of the app; 0: no limit."""
        return self.of(app).queue or 0

    def shared_by(self, nodes: int) -> None:
        """So many nodes take calls, this one included, and share the calls a second."""
        self._nodes = nodes

    async def set(self, app: str, quota: Quota) -> Quota:
        """Replace the app's quota, which may not have functions yet. An empty one is none.

        Raises:
            Invalid: naming limit and rule.
            Unavailable: Redis does not answer.
        """
        _check(quota)
        field = keys.APP + app
        payload = None if quota.empty else msgspec.json.encode(quota)
        await self._registry.apply(records=[Change(field, payload)])
        await self._catalog.until(lambda _: self.of(app) == quota)
        return quota

    def admit(self, app: str) -> None:
        """Count one call that has come in here.

        Raises:
            TooManyRequests: it is more than this node's share of the app's calls a second.
        """
        if not self._known or not self._rates:
            return
        rps = self.of(app).rps
        if rps is None:
            return
        mine = share(rps, self._nodes)
        wait_s = self._buckets.take(app, max(1.0, mine), mine, self._clock())
        if wait_s:
            raise TooManyRequests(
                f"app {app} has had its quota of {rps:g} calls a second",
                hint="Send more slowly, or ask an admin for more: faas apps quota.",
                retry_after_s=max(1.0, math.ceil(wait_s)),
            )

    def _follow(self, snapshot: Snapshot) -> None:
        records = {field: one for field, one in snapshot.others.items() if field.startswith(keys.APP)}
        if records == self._records:
            return
        known = {}
        for field, record in records.items():
            try:
                known[field[len(keys.APP) :]] = msgspec.json.decode(record.payload, type=Quota)
            except msgspec.MsgspecError:
                _log.exception("an app's quota is not readable; it has none", field=field)
        self._records, self._known = records, known


_NONE = Quota()


def _check(quota: Quota) -> None:
    for key, value in (("instances", quota.instances), ("queue", quota.queue)):
        if value is not None and not 1 <= value <= _MOST:
            raise Invalid(f"{key} = {value}: it is from 1 to {_MOST}")
    if quota.memory is not None and not _LEAST_MEMORY <= quota.memory <= 1 << 50:
        raise Invalid(f"memory = {quota.memory}: it is at least {show_size(_LEAST_MEMORY)}")
    if quota.rps is not None and not 0 < quota.rps <= _MOST:
        raise Invalid(f"rps = {quota.rps:g}: it is more than 0 and at most {_MOST}")
