"""What each app has of this node: instances and memory against its quota, and whose idle instances give way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from faas.errors import NoRoom
from faas.policy import eviction, quota
from faas.policy.quota import Quota, Use

if TYPE_CHECKING:
    from collections.abc import Callable

    from faas.node.pool import Pool


class Shares:
    """Starts hold a claim from their first step until the instance has joined its pool, where it is counted itself."""

    def __init__(
        self, pools: Callable[[], Iterable[Pool]], evict: Callable[[list[str]], None], quota_of: Callable[[str], Quota]
    ) -> None:
        """
        Args:
            evict: ends these idle instances at once.
            quota_of: an app's quota.
        """
        self._pools = pools
        self._evict = evict
        self._quota_of = quota_of
        self._instances: Counter[str] = Counter()
        self._memory: Counter[str] = Counter()

    @contextmanager
    def claim(self, pool: Pool) -> Iterator[None]:
        """Count a start of `pool` while it lasts; its app's coldest idle instances give way to it.

        Raises:
            NoRoom: the app has what its quota allows.
        """
        app, memory = pool.id.app, pool.version.settings.memory
        limits = self._quota_of(app)
        if not limits.empty:
            self._make_room(pool, limits)
        self._instances[app] += 1
        self._memory[app] += memory
        try:
            yield
        finally:
            self._instances[app] -= 1
            self._memory[app] -= memory
            if not self._instances[app]:
                del self._instances[app], self._memory[app]

    def use(self, app: str) -> Use:
        """What the app has here, starts included."""
        mine = [one.spec.memory for pool in self._pools() if pool.id.app == app for one in pool.instances.values()]
        return Use(len(mine) + self._instances[app], sum(mine) + self._memory[app])

    def _make_room(self, pool: Pool, limits: Quota) -> None:
        app, memory = pool.id.app, pool.version.settings.memory
        number, size = quota.missing(limits, self.use(app), memory)
        if not number and not size:
            return
        now = asyncio.get_running_loop().time()
        idle = [one for other in self._pools() if other.id.app == app for one in other.idle(now)]
        victims = eviction.to_evict(idle, size, pool.label, number)
        if victims:
            self._evict(victims)
        if over := quota.excess(limits, self.use(app), memory):
            raise NoRoom(
                f"app {app} has {over} of its quota on this node, and all of them are at work: {pool.label} waits",
                hint="Lower the app's load or its functions' `memory`, or ask an admin for more: faas apps quota.",
                retry_after_s=1.0,
            )
