"""What each node saw of the versions of a function in rollout: small counters that expire.

`seen:APP/NAME` is a hash: node -> msgpack of (tag, payload). Only counts under the present tag are of interest; the
rest is overwritten or expires.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgspec
from redis.asyncio import Redis

from faas.store import keys
from faas.store.connection import translated

KEEP_S = 3600
"""Seconds after the last report that the reports of a function are kept."""


class _Report(msgspec.Struct, frozen=True, array_like=True):
    tag: str
    payload: bytes


class Sightings:
    """Reports in one Redis. Every method raises Unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def publish(self, node: str, reports: Mapping[str, tuple[str, bytes]]) -> None:
        """Replace what `node` says about these functions (by `APP/NAME`): a tag and counters."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for function, report in reports.items():
                    pipe.hset(keys.seen(function), node, msgspec.msgpack.encode(_Report(*report)))
                    pipe.expire(keys.seen(function), KEEP_S)
                await pipe.execute()

    async def read(self, function: str, tag: str) -> list[bytes]:
        """What all nodes, dead ones too, said about `APP/NAME` under `tag`."""
        with translated():
            found = await self._redis.hvals(keys.seen(function))
        reports = (msgspec.msgpack.decode(cast("bytes", data), type=_Report) for data in found)
        return [report.payload for report in reports if report.tag == tag]
