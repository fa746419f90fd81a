"""Looking into the queue without moving anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from faas.store import keys
from faas.store.connection import translated
from faas.store.queue.model import (
    END_STATES,
    LANES,
    LIVE_STATES,
    Attempt,
    Depth,
    Info,
    Input,
    Result,
    State,
)

LIST_MAX = 1_000
"""Most jobs in one listing."""

_LANE = 2 * 10**15
_FIELDS = ("f", "s", "p", "e", "b", "t", "x", "n", "m", "l", "q", "z", "u")
_decode_input = msgspec.msgpack.Decoder(Input).decode
_decode_result = msgspec.msgpack.Decoder(Result).decode
_decode_attempt = msgspec.msgpack.Decoder(Attempt).decode


class Reads:
    """Questions about jobs. All methods raise Unavailable when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def get(self, id: str) -> Info | None:
        """The job as it is now; None when it is unknown or forgotten."""
        return (await self.get_many([id]))[0]

    async def get_many(self, ids: Sequence[str]) -> list[Info | None]:
        """One answer an id."""
        rows = await self._pipe([("HMGET", keys.job(id), *_FIELDS) for id in ids])
        found = [None if row[0] is None else _info(id, row) for id, row in zip(ids, rows, strict=True)]
        delayed = [info for info in found if info is not None and info.state == "delayed"]
        dues = await self._pipe([("ZSCORE", keys.delayed(info.function), info.id) for info in delayed])
        due = {info.id: int(float(score)) for info, score in zip(delayed, dues, strict=True) if score}
        return [
            msgspec.structs.replace(info, due_ms=due[info.id]) if info and info.id in due else info for info in found
        ]

    async def input(self, id: str) -> Input | None:
        """The job's input; None once it has succeeded or is forgotten."""
        (data,) = await self._pipe([("GET", keys.job_input(id))])
        return None if data is None else _decode_input(data)

    async def result(self, id: str) -> Result | None:
        """The job's result; None when it has none (yet) or is forgotten."""
        small, large = await self._pipe([("HGET", keys.job(id), "r"), ("GET", keys.job_result(id))])
        data = small if small is not None else large
        return None if data is None else _decode_result(data)

    async def history(self, id: str) -> list[Attempt]:
        """Failed attempts, oldest first; the last ones only when there were many."""
        (rows,) = await self._pipe([("LRANGE", keys.attempts(id), 0, -1)])
        return [_decode_attempt(row) for row in rows]

    async def find(
        self,
        functions: Sequence[str],
        states: Sequence[State] = (*LIVE_STATES, *END_STATES),
        *,
        since_ms: int = 0,
        until_ms: int = 2**50,
        limit: int = 100,
    ) -> list[Info]:
        """Jobs of these functions in these states, newest first.

        Args:
            since_ms, until_ms: bounds, both included, on when a job entered its state: the end of an ended one, the
                begin of a running one, since when a waiting one may begin, when a delayed one is due.
            limit: most jobs, at most LIST_MAX.
        """
        limit = max(1, min(limit, LIST_MAX))
        questions = [q for fn in functions for state in states for q in _ranges(fn, state, since_ms, until_ms, limit)]
        rows = await self._pipe([(*question, "WITHSCORES", "LIMIT", 0, limit) for question in questions])
        found: dict[str, int] = {}
        for row in rows:
            for id, score in zip(row[::2], row[1::2], strict=True):
                found[id.decode()] = _when_us(float(score))
        # Ties as Redis orders them, so that a longer listing begins with the shorter one.
        newest = sorted(found, key=lambda id: (found[id], id), reverse=True)[:limit]
        # Between the two looks a job may have moved: it is shown as it is now, if it still fits.
        return [info for info in await self.get_many(newest) if info is not None and info.state in states]

    async def depth(self, functions: Sequence[str]) -> dict[str, Depth]:
        """Queues in numbers, by function."""
        rows = await self._pipe([question for fn in functions for question in _depth_questions(fn)])
        size = len(_depth_questions(""))
        return {fn: _depth(rows[i * size : (i + 1) * size]) for i, fn in enumerate(functions)}

    async def ready(self, most: int = 1_000) -> list[str]:
        """Functions with waiting jobs, the longest unserved first."""
        (found,) = await self._pipe([("ZRANGE", keys.READY, 0, most - 1)])
        return [function.decode() for function in found]

    async def _pipe(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if not commands:
            return []
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return await pipe.execute()


def _info(id: str, row: list[bytes | None]) -> Info:
    """From the fields of `_FIELDS`, in that order."""
    text = [(value or b"").decode("utf-8", "replace") for value in row]
    function, state, lane, accepted, began, ended, expires, attempt, attempts, node, cause, size, flags = text
    return Info(
        id=id,
        function=function,
        state=cast("State", state),
        priority=LANES[int(lane or 1)],
        accepted_ms=int(accepted or 0),
        began_ms=int(began or 0),
        ended_ms=int(ended or 0),
        expires_ms=int(expires or 0),
        attempt=int(attempt or 0),
        attempts=int(attempts or 1),
        node=node,
        cause=cause,
        bytes=int(size or 0),
        cancel_asked="c" in flags,
    )


def _ranges(fn: str, state: State, since_ms: int, until_ms: int, limit: int) -> list[tuple[Any, ...]]:
    """Range commands that find the newest jobs of a state; waiting ones are in one range a lane."""
    if state == "waiting":
        since, until = since_ms * 1000, min(until_ms * 1000 + 999, _LANE - 1)
        lanes = [lane * _LANE for lane in range(len(LANES))]
        return [("ZREVRANGEBYSCORE", keys.waiting(fn), lane + until, lane + since) for lane in lanes]
    place = {"delayed": keys.delayed(fn), "running": keys.running(fn)}.get(state) or keys.ended(state, fn)
    return [("ZREVRANGEBYSCORE", place, until_ms, since_ms)]


def _when_us(score: float) -> int:
    """Scores of waiting jobs are microseconds above the lane, all others milliseconds."""
    return int(score) % _LANE if score > 10**14 else int(score) * 1000


def _depth_questions(fn: str) -> list[tuple[Any, ...]]:
    lanes = [lane * _LANE for lane in range(len(LANES))]
    first = ("WITHSCORES", "LIMIT", 0, 1)
    return [
        ("ZCARD", keys.waiting(fn)),
        ("ZCARD", keys.delayed(fn)),
        ("ZCARD", keys.running(fn)),
        ("ZCARD", keys.ended("dead", fn)),
        ("HMGET", keys.counters(fn), "n", "b"),
        *(("ZRANGEBYSCORE", keys.waiting(fn), lane, lane + _LANE - 1, *first) for lane in lanes),
    ]


def _depth(rows: list[Any]) -> Depth:
    waiting, delayed, running, dead, (unfinished, size), *heads = rows
    oldest = [_when_us(float(head[1])) // 1000 for head in heads if head]
    return Depth(
        waiting=waiting,
        delayed=delayed,
        running=running,
        dead=dead,
        unfinished=int(unfinished or 0),
        bytes=int(size or 0),
        oldest_ms=min(oldest, default=0),
    )
