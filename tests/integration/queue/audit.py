"""Does everything in the queue fit together? Looks at the keys themselves, not through the code under test."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from redis.asyncio import Redis

from faas.store import keys

LIVE = {"waiting": "w", "delayed": "d", "running": "run"}


async def audit(redis: Redis) -> dict[str, str]:
    """State by id, after checking that each job is in exactly the places its state says."""
    states, functions, sizes, nodes = {}, {}, {}, {}
    places: dict[str, list[str]] = defaultdict(list)
    leases: dict[str, list[str]] = defaultdict(list)
    counted: dict[str, tuple[int, int]] = {}
    of_apps: dict[str, int] = {}
    async for raw in redis.scan_iter(f"{keys.QUEUE}*", count=1000):
        key = raw.decode()
        kind, _, rest = key.removeprefix(keys.QUEUE).partition(":")
        if kind == "m":
            fields: dict[Any, Any] = await redis.hgetall(key)
            entry = {k.decode(): v.decode() for k, v in fields.items()}
            if not entry:
                continue  # it expired just now
            states[rest], functions[rest] = entry["s"], entry["f"]
            sizes[rest], nodes[rest] = int(entry["z"]), entry.get("l", "")
        elif kind in ("w", "d", "run", "e"):
            where = f"{kind}:{rest}"
            for id in await _members(redis, key):
                places[id].append(where)
        elif kind == "lease":
            for id in await _members(redis, key):
                leases[id].append(rest)
        elif kind == "c":
            n, b = await redis.hmget(key, ["n", "b"])
            counted[rest] = (int(n or 0), int(b or 0))
        elif kind == "app":
            of_apps[rest] = int(await redis.get(key) or 0)
    for id, state in states.items():
        kind = LIVE.get(state, f"e:{state}")
        assert places[id] == [f"{kind}:{functions[id]}"], f"{id} is {state} and in {places[id]}"
        assert leases.get(id, []) == ([nodes[id]] if state == "running" else []), f"{id}: {state}, {leases.get(id)}"
        if state in LIVE:
            assert await redis.exists(keys.job_input(id)), f"{id} is {state} and has no input"
            assert await redis.pttl(keys.job(id)) == -1, f"{id} is {state} and will be forgotten"
    orphans = {id for id, where in places.items() if id not in states and not where[0].startswith("e:")}
    assert not orphans, f"in order but without an entry: {orphans}"
    await _counts(states, functions, sizes, counted)
    live = Counter(functions[id].partition("/")[0] for id, state in states.items() if state in LIVE)
    assert of_apps == live, "counters of apps; one at zero is gone"
    await _ready(redis, states, functions)
    return states


async def _counts(
    states: dict[str, str], functions: dict[str, str], sizes: dict[str, int], counted: dict[str, tuple[int, int]]
) -> None:
    jobs, total = Counter[str](), Counter[str]()
    for id, state in states.items():
        if state in LIVE:
            jobs[functions[id]] += 1
            total[functions[id]] += sizes[id]
    for function in {*jobs, *counted}:
        assert counted.get(function, (0, 0)) == (jobs[function], total[function]), f"counters of {function}"


async def _ready(redis: Redis, states: dict[str, str], functions: dict[str, str]) -> None:
    """Whoever has waiting work is found, and whoever has delays too."""
    ready = set(await _members(redis, keys.READY))
    due = set(await _members(redis, f"{keys.QUEUE}due"))
    for id, state in states.items():
        assert state != "waiting" or functions[id] in ready, f"{functions[id]} has work and is not in `ready`"
        assert state != "delayed" or functions[id] in due, f"{functions[id]} has delays and is not in `due`"


async def _members(redis: Redis, key: str) -> list[str]:
    found: list[Any] = await redis.zrange(key, 0, -1)
    return [member.decode() for member in found]
