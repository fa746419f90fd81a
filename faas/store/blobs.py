"""Small code bundles in Redis, so that every node can fetch them. By digest; written once."""

from __future__ import annotations

from redis.asyncio import Redis

from faas.errors import TooLarge
from faas.store import keys
from faas.store.connection import translated
from faas.units import show_size

BLOB_MAX = 10 * 1024 * 1024
"""Largest archive kept here, in bytes."""


class Blobs:
    """Archives by their digest. Who puts one has verified that the digest is right."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def put(self, sha: str, data: bytes) -> None:
        """Keep `data`; nothing happens when the digest is known.

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
            await self._redis.set(keys.code(sha), data, nx=True)

    async def get(self, sha: str) -> bytes | None:
        """The archive, or None. Raises Unavailable."""
        with translated():
            data = await self._redis.get(keys.code(sha))
        return data if isinstance(data, bytes) else None

    async def exists(self, sha: str) -> bool:
        """True when `get` would find it. Raises Unavailable."""
        with translated():
            return bool(await self._redis.exists(keys.code(sha)))

    async def delete(self, sha: str) -> None:
        """Unknown digests are fine. Raises Unavailable."""
        with translated():
            await self._redis.unlink(keys.code(sha))
