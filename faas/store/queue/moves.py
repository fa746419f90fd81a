"""Runs the queue's Lua: `lua/q_lib.lua` and then one move, by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from faas.store import keys
from faas.store.connection import translated
from faas.store.queue.model import Limits

_LUA = Path(__file__).parent.parent / "lua"
_MAKES_ROOM = frozenset({"cancel", "purge", "reap", "renew", "turn"})
"""Moves that must go on when Redis is full: else it would stay full."""

_encode = msgspec.msgpack.Encoder().encode


class Moves:
    """The scripts, bound to a client and to limits."""

    def __init__(self, redis: Redis, limits: Limits) -> None:
        self._redis = redis
        ms = [round(seconds * 1000) for seconds in (limits.keep_s, limits.dead_s, limits.idle_s)]
        self._limits = _encode([ms[0], ms[1], limits.listed, limits.history, limits.length, limits.bytes, ms[2]])

    async def run(self, name: str, args: Sequence[Any], blobs: Sequence[bytes] = ()) -> Any:
        """The reply of `lua/q_NAME.lua`. NOSCRIPT means that nothing ran: sending the text is no blind retry.

        Raises:
            Unavailable: Redis does not answer; the move may have happened. Every move may be repeated.
        """
        text, sha = _load(name)
        sent = (keys.QUEUE, self._limits, _encode(args), *blobs)
        with translated():
            try:
                return await self._redis.evalsha(sha, 1, *sent)  # type: ignore[arg-type]
            except NoScriptError:
                return await self._redis.eval(text, 1, *sent)  # type: ignore[arg-type]


@cache
def _load(name: str) -> tuple[str, str]:
    flags = " flags=allow-oom" if name in _MAKES_ROOM else ""
    text = f"#!lua{flags}\n" + (_LUA / "q_lib.lua").read_text() + (_LUA / f"q_{name}.lua").read_text()
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
