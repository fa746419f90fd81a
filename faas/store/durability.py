"""Does this Redis keep what it has acknowledged? `202` promises that."""

from __future__ import annotations

from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from faas.store.connection import translated

_MEMORY = "or accept the loss with --durability memory"


class Durability(msgspec.Struct, frozen=True, kw_only=True):
    """`ok`: accepted work survives a crash of Redis. `finding`: what is set; `fix`: what to do, may be empty."""

    ok: bool
    finding: str
    fix: str = ""


async def check_durability(redis: Redis) -> Durability:
    """Look at the append-only file and the eviction policy. Raises Unavailable."""
    with translated():
        config = await _config(redis)
        info = await _info(redis)
    aof = config.get("appendonly") or {1: "yes", 0: "no"}.get(info.get("aof_enabled", -1), "")
    policy = config.get("maxmemory-policy") or str(info.get("maxmemory_policy", ""))
    if info.get("aof_last_write_status", "ok") != "ok":
        return Durability(
            ok=False,
            finding="Redis cannot write its append-only file",
            fix="Check the space and health of its disk.",
        )
    if not aof or not policy:
        return Durability(
            ok=False,
            finding="unknown: this Redis allows neither CONFIG GET nor INFO",
            fix=f"Allow INFO to our user, {_MEMORY}.",
        )
    return _judge(aof, config.get("appendfsync", ""), policy)


def _judge(aof: str, fsync: str, policy: str) -> Durability:
    if aof != "yes":
        return Durability(
            ok=False,
            finding="appendonly is off: a restart of Redis loses accepted work",
            fix=f"CONFIG SET appendonly yes, {_MEMORY}.",
        )
    if policy != "noeviction":
        return Durability(
            ok=False,
            finding=f"maxmemory-policy is {policy}: Redis may throw accepted work away",
            fix=f"CONFIG SET maxmemory-policy noeviction, {_MEMORY}.",
        )
    if fsync == "always":
        return Durability(ok=True, finding="appendonly yes, appendfsync always, noeviction")
    return Durability(
        ok=True,
        finding=f"appendonly yes, noeviction, but appendfsync is {fsync or 'unknown'}:"
        " a crash of its machine can lose what was accepted last",
        fix="CONFIG SET appendfsync always",
    )


async def _config(redis: Redis) -> dict[str, str]:
    """Empty where CONFIG is forbidden or renamed, as hosted servers do."""
    try:
        found = await redis.config_get("appendonly", "appendfsync", "maxmemory-policy")
    except (NoPermissionError, ResponseError):
        return {}
    return {key: value for key, value in found.items() if key and value}


async def _info(redis: Redis) -> dict[str, Any]:
    try:
        return {**await redis.info("persistence"), **await redis.info("memory")}
    except (NoPermissionError, ResponseError):
        return {}
