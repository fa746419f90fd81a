"""Runs the Lua files of `lua/` by their hash; a server that has not seen one gets its text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

_LUA = Path(__file__).parent / "lua"


class Scripts:
    """The Lua files, bound to one client. NOSCRIPT means that nothing ran: sending the text is no blind retry."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def run(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """The reply of `lua/NAME.lua`; keys and arguments: see the file's head. Raises RedisError."""
        text, sha = _load(name)
        try:
            return await self._redis.evalsha(sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self._redis.eval(text, len(keys), *keys, *args)


@cache
def _load(name: str) -> tuple[str, str]:
    text = (_LUA / f"{name}.lua").read_text()
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
