"""Code bundles between their two homes: unpacked on this node's disk, packed in Redis for the other nodes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from faas.archive import verify
from faas.bundles import BundleStore
from faas.errors import Invalid, Unavailable
from faas.store.blobs import BLOB_MAX, Blobs

_SHA = re.compile(r"[0-9a-f]{64}")
UPLOAD_MAX = 64 * 1024 * 1024
"""Largest packed bundle taken, in bytes."""
FETCHES_AT_ONCE = 4
ARCHIVE_MAGIC = b"\x28\xb5\x2f\xfd"
"""Of zstd: what every archive begins with, and no recipe."""

Follow = Callable[[str, bytes], Awaitable[bool]]


def check_sha(text: str) -> str:
    """`text` itself. Raises Invalid."""
    if not _SHA.fullmatch(text):
        raise Invalid(f'"{text[:80]}" is not a bundle: expected a sha256 in 64 lower-case hex digits')
    return text


class Code:
    """Stores bundles and brings them to this node."""

    def __init__(self, bundles: BundleStore, blobs: Blobs, follow: Follow | None = None) -> None:
        """
        Args:
            follow: makes the bundle `sha` from what Redis has under it, if that is a recipe; else answers False.
        """
        self._bundles = bundles
        self._blobs = blobs
        self._follow = follow
        # Unpacking takes memory and a core. Uploads go one by one, however many people push; what a start
        # waits for does not queue behind them.
        self._uploads = asyncio.Lock()
        self._fetches = asyncio.Semaphore(FETCHES_AT_ONCE)

    async def has(self, sha: str) -> bool:
        """True when the cluster knows it and this node has it or can fetch it.

        A copy left on this node's disk is not enough: the other nodes could not get it. To ask keeps the
        collector away for a while, as an upload does.
        """
        if sha not in await self._blobs.touch([sha]):
            return False
        return await self._touch(sha) or await self._blobs.exists(sha)

    async def store(self, sha: str, data: bytes) -> None:
        """Keep an uploaded bundle. To repeat it is harmless.

        Redis first: what is on this node's disk is then also within reach of the others.

        Raises:
            Invalid: it is not an archive, breaks a rule for archives, or is not what `sha` names.
        """
        if await self.has(sha) and await self._local(sha):
            return
        async with self._uploads:
            await asyncio.to_thread(verify, data, sha)
            if len(data) <= BLOB_MAX:
                await self._blobs.put(sha, data)
            else:
                await self._blobs.note(sha)
            await asyncio.to_thread(self._bundles.add, sha, data)
            await self._touch(sha)

    async def claim(self, shas: Collection[str]) -> list[str]:
        """Bring bundles here and keep the collector away from them for a while. Returns those nobody has."""
        await self._blobs.touch(shas)
        absent = await asyncio.to_thread(lambda: [sha for sha in sorted(shas) if not self._bundles.touch(sha)])
        return [sha for sha in absent if not await self.ensure(sha)]

    async def ensure(self, sha: str) -> bool:
        """Bring it to this node's disk; False when nobody has it."""
        if await self._local(sha):
            return True
        async with self._fetches:
            data = await self._blobs.get(sha)
            if data is None:
                return False
            if data.startswith(ARCHIVE_MAGIC) or self._follow is None:
                await asyncio.to_thread(self._bundles.add, sha, data)
                return True
        # Installing takes long: other bundles must not wait for it.
        return await self._follow(sha, data)

    async def fetch(self, sha: str) -> None:
        """Bring it to this node's disk. Raises Unavailable when nobody has it."""
        if not await self.ensure(sha):
            raise Unavailable(f"the bundle {sha[:12]} is not on any node", hint="Push the function again.")

    async def here(self, sha: str) -> bool:
        """True when it is on this node's disk."""
        return await self._local(sha)

    async def folder(self, sha: str) -> Path:
        """Its directory on this node, for reading. Raises Unavailable when nobody has it."""
        await self.fetch(sha)
        return self._bundles.path(sha)

    async def _touch(self, sha: str) -> bool:
        return await asyncio.to_thread(self._bundles.touch, sha)

    async def _local(self, sha: str) -> bool:
        return await asyncio.to_thread(self._bundles.has, sha)
