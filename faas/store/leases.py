"""Claims that expire: who holds one does what only one node should do. Redis' clock decides.

A holder that cannot renew loses its lease after `ttl_s`; it must have stopped by then, so `held` turns False on this
node's own clock before Redis gives the lease to another.
"""

from __future__ import annotations

import time

from redis.asyncio import Redis

from faas.store import keys
from faas.store.connection import translated

TTL_S = 5.0
MARGIN = 0.8
"""Share of the lease's life that a holder relies on: clocks of two machines do not run equally fast."""

# KEYS[1] the lease; ARGV[1] who asks, ARGV[2] its life in milliseconds. Returns 1 when the asker holds it now.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
# KEYS[1] the lease; ARGV[1] who gives it up. Only its holder can.
_DROP = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Lease:
    """One named claim, as `holder` sees it."""

    def __init__(self, redis: Redis, name: str, holder: str, ttl_s: float = TTL_S) -> None:
        self._redis = redis
        self._key = keys.lease(name)
        self._holder = holder
        self._ttl_s = ttl_s
        self._until = 0.0

    @property
    def held(self) -> bool:
        """True while nobody else can hold it."""
        return time.monotonic() < self._until

    async def hold(self) -> bool:
        """Take or renew it. Raises Unavailable."""
        asked = time.monotonic()
        with translated():
            got = await self._redis.eval(_HOLD, 1, self._key, self._holder, str(int(self._ttl_s * 1000)))
        self._until = asked + self._ttl_s * MARGIN if got else 0.0
        return self.held

    async def drop(self) -> None:
        """Give it up, so that another need not wait. Raises Unavailable."""
        self._until = 0.0
        with translated():
            await self._redis.eval(_DROP, 1, self._key, self._holder)
