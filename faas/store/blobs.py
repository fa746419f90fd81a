"""Small code bundles in Redis, so that every node can fetch them. By digest; written once.

An index holds every digest the cluster knows, those too large to be kept here included, and when it was last asked
for: what nobody refers to and nobody asked for in a while can go.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from redis.asyncio import Redis

from faas.errors import TooLarge
from faas.store import keys
from faas.store.connection import translated
from faas.store.scripts import Scripts
from faas.units import show_size

BLOB_MAX = 10 * 1024 * 1024
"""Largest archive kept here, in bytes."""
_BATCH = 500


class Blobs:
    """Archives by their digest. Who puts one has verified that the digest is right."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def put(self, sha: str, data: bytes) -> None:
        """Keep `data`; a digest that is known keeps what it has.

        Raises:
            TooLarge: more than BLOB_MAX bytes.
            Unavailable: Redis does not answer, or is full.
        """
        if len(data) > BLOB_MAX:
            raise TooLarge(
                f"code bundle of {show_size(len(data))} exceeds the {show_size(BLOB_MAX)} that Redis keeps",
                hint="Leave out large files and fetch them at run time.",
            )
        with translated():
            await self._scripts.run("blob_put", [keys.CODES, keys.code(sha)], [sha, data])

    async def note(self, sha: str) -> None:
        """Remember a bundle that is too large to be kept here. Raises Unavailable."""
        with translated():
            await self._scripts.run("blob_put", [keys.CODES], [sha])

    async def get(self, sha: str) -> bytes | None:
        """The archive, or None. Raises Unavailable."""
        with translated():
            data = await self._redis.get(keys.code(sha))
        return data if isinstance(data, bytes) else None

    async def exists(self, sha: str) -> bool:
        """True when `get` would find it. Raises Unavailable."""
        with translated():
            return bool(await self._redis.exists(keys.code(sha)))

    async def touch(self, shas: Collection[str]) -> set[str]:
        """Say that these are wanted, so that `sweep` spares them; returns those that are known."""
        known: set[str] = set()
        for batch in _batches(sorted(shas)):
            with translated():
                found = await self._scripts.run("blob_touch", [keys.CODES], batch)
            known.update(sha.decode() for sha in found)
        return known

    async def idle(self, age_s: float) -> list[str]:
        """Digests nobody has asked for during `age_s` seconds of Redis' time. Raises Unavailable."""
        with translated():
            seconds, micros = await self._redis.time()
            before = seconds * 1000 + micros // 1000 - int(age_s * 1000)
            found: Any = await self._redis.zrangebyscore(keys.CODES, "-inf", before)
        return [sha.decode() for sha in found]

    async def sweep(self, shas: Collection[str], age_s: float) -> int:
        """Forget these, except those asked for during the last `age_s` seconds. Returns how many went."""
        removed = 0
        for batch in _batches(sorted(shas)):
            names = [keys.CODES, *(keys.code(sha) for sha in batch)]
            with translated():
                removed += await self._scripts.run("blob_sweep", names, [int(age_s * 1000), *batch])
        return removed

    async def delete(self, sha: str) -> None:
        """Unknown digests are fine. Raises Unavailable."""
        with translated():
            await self._redis.unlink(keys.code(sha))
            await self._redis.zrem(keys.CODES, sha)


def _batches(shas: Sequence[str]) -> list[Sequence[str]]:
    """Scripts hold up everyone else: a bounded number of keys each."""
    return [shas[start : start + _BATCH] for start in range(0, len(shas), _BATCH)]
