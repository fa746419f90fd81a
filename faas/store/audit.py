"""Who changed what: a stream in Redis that forgets its oldest entries. Redis gives the time, and the order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace
from redis.asyncio import Redis

from faas.store import keys
from faas.store.connection import translated

LENGTH = 10_000
"""Entries kept, about."""
_PAGE = 500
_BLOCK_MS = 5_000


class Touched(msgspec.Struct, frozen=True, omit_defaults=True, rename={"from_": "from"}):
    """A function a change was about, and the versions it moved between; 0: none."""

    name: str
    from_: int = 0
    to: int = 0


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change someone made, or tried to. `id` and `at` (Unix seconds) are Redis'."""

    by: str
    verb: str
    """The API's name for it, such as `set_alias`."""
    outcome: str
    """`ok`, or the code of the error it ended with."""
    address: str = ""
    app: str = ""
    """Empty: it belongs to no app."""
    functions: tuple[Touched, ...] = ()
    more: int = 0
    """Functions of the app it was also about, beyond those named."""
    detail: str = ""
    id: str = ""
    at: float = 0.0


Matches = Callable[[AuditEntry], bool]


class Page(NamedTuple):
    """Entries, oldest first, and the id of the newest there was, whether it matched or not."""

    entries: list[AuditEntry]
    position: str


class AuditLog:
    """The stream in one Redis.

    Args:
        connect: makes the client that `follow` blocks on, without a reply timeout.
    """

    def __init__(self, redis: Redis, connect: Callable[[], Awaitable[Redis]]) -> None:
        self._redis = redis
        self._connect = connect

    async def add(self, entries: Sequence[AuditEntry]) -> None:
        """Append, in this order. Raises Unavailable; they may then have been written."""
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                for entry in entries:
                    pipe.xadd(keys.AUDIT, {"e": msgspec.json.encode(entry)}, maxlen=LENGTH, approximate=True)
                await pipe.execute()

    async def newest(self, limit: int, matches: Matches) -> Page:
        """The newest `limit` entries that match. Raises Unavailable."""
        found: list[AuditEntry] = []
        before, position = "+", ""
        while True:
            with translated():
                page: Any = await self._redis.xrevrange(keys.AUDIT, max=before, count=_PAGE)
            for id, fields in page:
                position = position or id.decode()
                entry = _entry(id, fields)
                if len(found) < limit and entry is not None and matches(entry):
                    found.append(entry)
            if len(page) < _PAGE or len(found) >= limit:
                return Page(found[::-1], position or "0-0")
            before = "(" + page[-1][0].decode()

    async def follow(self, position: str, matches: Matches) -> AsyncIterator[AuditEntry]:
        """Entries after `position` as they come, for ever. It owns a connection. Raises Unavailable."""
        redis = await self._connect()
        try:
            while True:
                with translated():
                    reply: Any = await redis.xread({keys.AUDIT: position}, count=_PAGE, block=_BLOCK_MS)
                for id, fields in reply[0][1] if reply else ():
                    position = id.decode()
                    entry = _entry(id, fields)
                    if entry is not None and matches(entry):
                        yield entry
        finally:
            await redis.aclose()


def _entry(id: bytes, fields: dict[bytes, bytes]) -> AuditEntry | None:
    try:
        entry = msgspec.json.decode(fields.get(b"e", b""), type=AuditEntry)
    except msgspec.MsgspecError:
        return None
    text = id.decode()
    return replace(entry, id=text, at=int(text.partition("-")[0]) / 1000)
