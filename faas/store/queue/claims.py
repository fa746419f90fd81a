"""Idempotency keys of sync calls. They share their names with those of jobs: one key, one execution, either way."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from faas.store.queue.model import Claim, EndState, Limits, Once, Result
from faas.store.queue.moves import Moves


class Claims:
    """Claim, run, settle. All methods raise Unavailable when Redis does not answer."""

    def __init__(self, redis: Redis, limits: Limits | None = None) -> None:
        self._moves = Moves(redis, limits or Limits())

    async def claim(self, once: Once, id: str, hold_s: float) -> tuple[Claim, str]:
        """Ask for the right to run under this key, and the id of the call or job that has it.

        `new`: run, then `settle` or `drop`. `busy`: a sync call runs (409). `done`: it has ended, its result is
        `Reads.result(id)`. `job`: a job of that id is or was the one. `conflict`: another request (422).

        Args:
            hold_s: after this the key is free again unless settled: the call's deadline and some grace.
        """
        hold = max(1, round(hold_s * 1000))
        verdict, first = await self._moves.run("claim", ["claim", once.key, once.body, id, hold])
        return msgspec.convert(verdict.decode(), Claim), first.decode()

    async def settle(
        self,
        once: Once,
        id: str,
        function: str,
        result: Result,
        *,
        began_ms: int,
        state: EndState = "succeeded",
    ) -> bool:
        """Keep the result for all who repeat the call. False: the claim had run out."""
        args = ["settle", once.key, once.body, id, function, state, began_ms]
        return bool(await self._moves.run("claim", args, [msgspec.msgpack.encode(result)]))

    async def drop(self, once: Once, id: str) -> bool:
        """Nothing was begun: a repeat may run. False: the claim had run out."""
        return bool(await self._moves.run("claim", ["drop", once.key, once.body, id]))
