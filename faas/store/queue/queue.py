"""The durable queue: every move of a job, in batches, each one script and one round trip.

Repeating a move is harmless: an id is accepted once, and an outcome counts only under the lease it was made under.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from faas.errors import Invalid, TooLarge
from faas.store import keys
from faas.store.connection import translated
from faas.store.queue.model import (
    LANES,
    Done,
    Enqueued,
    GiveBack,
    Input,
    Job,
    Kept,
    Limits,
    NewJob,
    Outcome,
    Reaped,
    Refused,
    Retry,
    Turn,
    Want,
    conflict,
    full,
)
from faas.store.queue.moves import Moves

MOST = 256
"""Most jobs in one move."""
CAUSE_MAX = 300
STEPS_MAX, STEPS_BYTES_MAX = 1_000, 16 * 1024 * 1024
_YEAR_S = 366 * 86400.0
_LAST_S = 32_503_680_000.0

_encode = msgspec.msgpack.Encoder().encode
_decode_input = msgspec.msgpack.Decoder(Input).decode


class Queue:
    """The queue in one Redis. All methods raise Unavailable when it does not answer: the move may have happened."""

    def __init__(self, redis: Redis, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._redis = redis
        self._moves = Moves(redis, self.limits)

    async def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued | Refused]:
        """Accept jobs, in this order; one answer each. What is Enqueued was stored before this returns.

        Raises:
            Invalid: more than MOST jobs, or a job out of bounds; nothing was stored.
        """
        _few(jobs)
        inputs = [_encode(job.input) for job in jobs]
        replies = await self._moves.run("enqueue", list(map(_new, jobs, inputs)), inputs)
        return [self._accepted(job, reply) for job, reply in zip(jobs, replies, strict=True)]

    def _accepted(self, job: NewJob, reply: list[Any]) -> Enqueued | Refused:
        match reply[0]:
            case b"ok":
                return Enqueued(job.id)
            case b"duplicate":
                return Enqueued(reply[1].decode(), duplicate=True)
            case b"conflict":
                return conflict(job, reply[1].decode())
        return full(job, reply[1], reply[2].decode(), self.limits)

    async def turn(self, outcomes: Sequence[Outcome], want: Want | None = None) -> Turn:
        """Say how attempts ended and take new jobs, in one round trip.

        Raises:
            Invalid: more than MOST outcomes, or `want` out of bounds; nothing happened.
        """
        _few(outcomes)
        blobs: list[bytes] = []
        told = [_told(outcome, blobs) for outcome in outcomes]
        settled, jobs, more, due = await self._moves.run("turn", [told, _wanted(want)], blobs)
        return Turn(
            jobs=tuple(map(_job, jobs)),
            lost=tuple(one.id for one, ok in zip(outcomes, settled, strict=True) if not ok),
            more=bool(more),
            next_due_s=_due(due),
        )

    async def take(self, want: Want) -> Turn:
        """Take jobs only. See `turn`."""
        return await self.turn((), want)

    async def renew(self, node: str, held: Sequence[tuple[str, int]], lease_s: float = 10.0) -> dict[str, Kept]:
        """Keep the leases (id, take) for `lease_s` more; says which are lost and which should be cancelled."""
        _few(held)
        replies = await self._moves.run("renew", [node, _ms(lease_s), held])
        return {id: Kept(reply > 0, reply == 2) for (id, _), reply in zip(held, replies, strict=True)}

    async def cancel(self, ids: Sequence[str]) -> dict[str, str]:
        """By id: `cancelled`, `asked` (it runs; its node is told), `unknown`, or the state it has ended in."""
        _few(ids)
        return _by_id(ids, await self._moves.run("cancel", ids))

    async def reap(self, most: int = MOST) -> Reaped:
        """End leases that ran out, let delays end, bury what is too old. For the leader, about once a second."""
        return await self._reap("", most)

    async def node_lost(self, node: str, most: int = MOST) -> Reaped:
        """End all leases of a node that is known to be dead. Call until `more` is False."""
        return await self._reap(node, most)

    async def _reap(self, node: str, most: int) -> Reaped:
        lost, old, more, due = await self._moves.run("reap", [node, most])
        return Reaped(lost=lost, old=old, more=bool(more), next_due_s=_due(due))

    async def again(self, ids: Sequence[str]) -> dict[str, str]:
        """Redrive dead, failed or cancelled jobs with all their attempts before them.

        By id: `waiting`, `unknown`, `full`, or the state that does not allow it.
        """
        _few(ids)
        return _by_id(ids, await self._moves.run("again", ids))

    async def purge(self, ids: Sequence[str]) -> dict[str, str]:
        """Forget ended jobs. By id: `purged`, `unknown`, or the state of one that has not ended."""
        _few(ids)
        return _by_id(ids, await self._moves.run("purge", ids))

    async def keep_step(self, id: str, take: int, name: str, result: bytes) -> bytes | None:
        """Store the result of a step once; returns the one that is stored, None when the lease is lost.

        Raises:
            TooLarge: more than STEPS_MAX steps or STEPS_BYTES_MAX bytes for this job.
        """
        reply = await self._moves.run("step", [id, take, name, STEPS_MAX, STEPS_BYTES_MAX], [result])
        if reply[0] == b"full":
            limit = f"{STEPS_MAX} steps" if reply[1] == b"steps" else f"{STEPS_BYTES_MAX} bytes of step results"
            raise TooLarge(f'step "{name[:80]}" of {id} is more than the {limit} that a job may keep')
        return reply[1] if reply[0] == b"ok" else None

    async def steps(self, id: str) -> dict[str, bytes]:
        """Results of the steps that are done, by name."""
        with translated():
            found: dict[Any, Any] = await self._redis.hgetall(keys.steps(id))
        return {name.decode(): value for name, value in found.items()}

    async def notices(self, most: int = MOST) -> list[str]:
        """Ids of ended jobs with `notify` nobody has called `noticed` for; oldest first."""
        with translated():
            found: list[Any] = await self._redis.zrange(keys.NOTICE, 0, most - 1)
        return [id.decode() for id in found]

    async def noticed(self, ids: Sequence[str]) -> None:
        """Their ends are dealt with."""
        if ids:
            with translated():
                await self._redis.zrem(keys.NOTICE, *ids)


def _few(many: Sequence[Any]) -> None:
    if len(many) > MOST:
        raise Invalid(f"{len(many)} in one move: the most is {MOST}", hint="Send them in smaller batches.")


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _new(job: NewJob, input: bytes) -> list[Any]:
    if job.attempts < 1 or not 0 < job.max_age_s <= _YEAR_S or not 0 <= job.delay_s <= _YEAR_S:
        raise Invalid(
            f"job {job.id}: attempts {job.attempts} (at least 1), max_age {job.max_age_s} s (above 0) and delay"
            f" {job.delay_s} s (0 or more); both end at a year"
        )
    if job.at is not None and not 0 <= job.at <= _LAST_S:
        raise Invalid(f"job {job.id}: at {job.at} is not a time in Unix seconds before the year 3000")
    at = _ms(job.at or 0.0)
    key, body = (job.once.key, job.once.body) if job.once else ("", "")
    flags = "y" if job.notify else ""
    lane = LANES.index(job.priority)
    age = max(1, _ms(job.max_age_s))
    return [
        *(job.id, job.function, lane, job.attempts, at, _ms(job.delay_s), age),
        *(key, body, flags, len(input), job.app_most),
    ]


def _told(outcome: Outcome, blobs: list[bytes]) -> list[Any]:
    """The outcome as the script wants it; results and records go to `blobs` and are named by their place."""

    def place(value: Any) -> int:
        if value is None:
            return 0
        blobs.append(_encode(value))
        return len(blobs)

    match outcome:
        case Done():
            result, attempt = place(outcome.result), place(outcome.attempt)
            return [outcome.id, outcome.take, outcome.state, outcome.cause[:CAUSE_MAX], 0, result, attempt]
        case Retry():
            after = _ms(min(outcome.after_s, _YEAR_S))
            return [
                outcome.id,
                outcome.take,
                "retry",
                outcome.cause[:CAUSE_MAX],
                after,
                0,
                place(outcome.attempt),
            ]
        case GiveBack():
            return [outcome.id, outcome.take, "back", "", 0, 0, 0]


def _wanted(want: Want | None) -> list[Any] | bool:
    if want is None or want.most <= 0:
        return False
    if want.most > MOST or want.lease_s <= 0:
        raise Invalid(f"take of {want.most} jobs for {want.lease_s} s: at most {MOST}, for more than 0 s")
    lease = max(1, _ms(want.lease_s))
    return [want.node, lease, want.most, want.most_bytes, want.each, want.rooms, want.limits]


def _job(reply: list[Any]) -> Job:
    id, function, take, attempt, accepted, attempts, expires, _, input = reply
    return Job(
        id=id.decode(),
        function=function.decode(),
        take=take,
        attempt=attempt,
        attempts=attempts,
        accepted_ms=accepted,
        expires_ms=expires,
        input=_decode_input(input),
    )


def _due(ms: int) -> float | None:
    return None if ms < 0 else ms / 1000


def _by_id(ids: Sequence[str], replies: list[bytes]) -> dict[str, str]:
    return {id: reply.decode() for id, reply in zip(ids, replies, strict=True)}
