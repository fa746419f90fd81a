"""Which idle instances go: past their idle time, or when another function needs the memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Idle(NamedTuple):
    """An idle instance. `spare`: instances its pool has beyond its `min`."""

    id: str
    pool: str
    idle_s: float
    memory: int
    spare: int


def to_expire(idle: Sequence[Idle], limit_s: float) -> list[str]:
    """Ids of one pool's instances idle for at least `limit_s`, coldest first, leaving `min` in place."""
    if not idle:
        return []
    coldest = sorted(idle, key=lambda one: -one.idle_s)
    old = [one.id for one in coldest if one.idle_s >= limit_s]
    return old[: max(0, coldest[0].spare)]


def to_evict(idle: Sequence[Idle], needed: int, for_pool: str, number: int = 0) -> list[str]:
    """Ids that free `needed` bytes, coldest first, never `for_pool`'s own and never below a pool's `min`.

    Empty when even all of them would not free enough: evicting for nothing helps nobody.

    Args:
        number: instances that must go, whatever they free.
    """
    chosen: list[str] = []
    taken: dict[str, int] = {}
    freed = 0
    for one in sorted(idle, key=lambda one: -one.idle_s):
        if freed >= needed and len(chosen) >= number:
            break
        if one.pool == for_pool or taken.get(one.pool, 0) >= one.spare:
            continue
        taken[one.pool] = taken.get(one.pool, 0) + 1
        chosen.append(one.id)
        freed += one.memory
    return chosen if freed >= needed and len(chosen) >= number else []
