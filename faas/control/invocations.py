"""Looking at background calls that were accepted, and acting on them: cancel, again, redrive, purge.

list_, detail            what there is and what became of it
cancel, again            one call
redrive, purge           dead letters of a function: some by id, or all there are now
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from faas.errors import Conflict, Invalid, NotFound, TooManyRequests
from faas.names import FunctionName, parse_key
from faas.store.queue.model import END_STATES, LIVE_STATES, Attempt, Info, Input, Priority, Result, State
from faas.store.queue.queue import MOST, Queue
from faas.store.queue.reads import LIST_MAX, Reads

STATES: tuple[State, ...] = (*LIVE_STATES, *END_STATES)
FUNCTIONS_MAX = 1_000
"""Functions searched in one listing that names none."""
PURGE_MAX = 10_000
"""Dead letters that one request redrives or purges at most: all that a function's list holds."""


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """A background call at a glance. Times in Unix seconds; 0 where they do not apply."""

    id: str
    function: str
    """As NAME or NAME.APP."""
    state: State
    priority: Priority
    accepted_at: float
    began_at: float
    """Of the last attempt."""
    ended_at: float
    due_at: float
    """When a delayed one begins to wait for room."""
    expires_at: float
    """No attempt begins after this."""
    attempt: int
    """Attempts begun."""
    attempts: int
    """Most attempts."""
    node: str
    """Where the last attempt ran."""
    cause: str
    """Why it ended other than well."""
    bytes: int
    cancel_asked: bool


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """A failed attempt. `cause` is an error's code, `status N` or `node_lost`; `error` its problem document."""

    number: int
    node: str
    started_at: float
    ended_at: float
    cause: str
    error: dict[str, Any] | None = None


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """A background call in full: its failed attempts, oldest first, and the last error as a problem document."""

    invocation: Invocation
    tries: list[Try]
    error: dict[str, Any] | None = None
    status: int | None = None
    """HTTP status of the result; null before the end."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a listing. `cursor` continues it; empty at its end."""

    invocations: list[Invocation]
    cursor: str = ""


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What became of dead letters. `done` were redriven or purged; `left` by id: why another one was not."""

    done: int
    left: dict[str, str] = {}


class Invocations:
    """All methods raise Unavailable when Redis does not answer."""

    def __init__(self, queue: Queue, reads: Reads) -> None:
        self._queue = queue
        self._reads = reads

    async def list_(
        self, functions: Sequence[str], states: Sequence[State], *, since_ms: int, limit: int, cursor: str
    ) -> Page:
        """Newest first, by when each entered its state.

        Args:
            functions: by APP/NAME.
            cursor: of the page before; empty: from the newest.

        Raises:
            Invalid: the cursor is none of ours, or too many functions.
        """
        if len(functions) > FUNCTIONS_MAX:
            raise Invalid(f"{len(functions)} functions are too many for one listing", hint="Name a function or an app.")
        until_ms, skip = _read_cursor(cursor)
        wanted = min(LIST_MAX, skip + limit)
        found = await self._reads.find(functions, states, since_ms=since_ms, until_ms=until_ms, limit=wanted)
        page = found[skip : skip + limit]
        more = len(found) >= wanted and bool(page)
        return Page(invocations=[view(info) for info in page], cursor=_next_cursor(found, until_ms) if more else "")

    async def detail(self, info: Info) -> Detail:
        """Attempts and error of a call."""
        tries = [_try(one) for one in await self._reads.history(info.id)]
        result = await self._reads.result(info.id) if info.ended_ms else None
        error = result.error if result is not None else None
        if error is None and tries and info.state != "succeeded":
            error = tries[-1].error
        return Detail(invocation=view(info), tries=tries, error=error, status=None if result is None else result.status)

    async def input(self, id: str) -> Input | None:
        """What it was called with; None once it has succeeded."""
        return await self._reads.input(id)

    async def result(self, id: str) -> Result | None:
        """What its last attempt answered; None before its end."""
        return await self._reads.result(id)

    async def cancel(self, id: str) -> str:
        """`cancelled` when it had not begun, `asked` when it runs. Raises NotFound, Conflict when it has ended."""
        said = (await self._queue.cancel([id]))[id]
        if said == "unknown":
            raise _unknown(id)
        if said not in ("cancelled", "asked"):
            raise Conflict(f"invocation {id} has ended already: {said}")
        return said

    async def again(self, id: str) -> None:
        """Run a dead, failed or cancelled call once more with all its attempts before it.

        Raises:
            NotFound: it is unknown, or its input is no longer there.
            Conflict: it has not ended, or has succeeded.
            TooManyRequests: the function's queue is full.
        """
        said = (await self._queue.again([id]))[id]
        if said == "unknown":
            raise _unknown(id)
        if said == "full":
            raise TooManyRequests("the function's queue is full", hint="Repeat when it has drained.", retry_after_s=5.0)
        if said != "waiting":
            raise Conflict(f"invocation {id} is {said}: only dead, failed and cancelled ones are run again")

    async def redrive(self, function: FunctionName, ids: Sequence[str] | None) -> Swept:
        """Run dead letters again: these, or all there are now (None). What dies again meanwhile is not taken twice."""
        return await self._sweep(function, ids, self._queue.again, "waiting")

    async def purge(self, function: FunctionName, ids: Sequence[str] | None) -> Swept:
        """Forget dead letters: these, or all there are now (None)."""
        return await self._sweep(function, ids, self._queue.purge, "purged")

    async def _sweep(
        self,
        function: FunctionName,
        ids: Sequence[str] | None,
        move: Callable[[Sequence[str]], Awaitable[dict[str, str]]],
        good: str,
    ) -> Swept:
        if ids is not None:
            infos = await self._reads.get_many(list(ids))
            ours = [info.id for info in infos if info and info.state == "dead" and info.function == function.key]
            left = {id: "not a dead letter of this function" for id in ids if id not in set(ours)}
            done, refused = await _moved(ours, move, good)
            return Swept(done=done, left={**left, **refused})
        until_ms, total, left = int(time.time() * 1000), 0, {}
        while total < PURGE_MAX and not left:
            found = await self._reads.find([function.key], ["dead"], until_ms=until_ms, limit=MOST)
            if not found:
                break
            done, left = await _moved([info.id for info in found], move, good)
            total += done
            if not done:
                break
        return Swept(done=total, left=left)


async def _moved(
    ids: Sequence[str], move: Callable[[Sequence[str]], Awaitable[dict[str, str]]], good: str
) -> tuple[int, dict[str, str]]:
    said: dict[str, str] = {}
    for start in range(0, len(ids), MOST):
        said.update(await move(ids[start : start + MOST]))
    left = {id: what for id, what in said.items() if what != good}
    return len(said) - len(left), left


def view(info: Info) -> Invocation:
    """A job as people see it."""
    return Invocation(
        id=info.id,
        function=str(parse_key(info.function)),
        state=info.state,
        priority=info.priority,
        accepted_at=info.accepted_ms / 1000,
        began_at=info.began_ms / 1000,
        ended_at=info.ended_ms / 1000,
        due_at=info.due_ms / 1000,
        expires_at=info.expires_ms / 1000,
        attempt=info.attempt,
        attempts=info.attempts,
        node=info.node,
        cause=info.cause,
        bytes=info.bytes,
        cancel_asked=info.cancel_asked,
    )


def _try(one: Attempt) -> Try:
    return Try(
        number=one.number,
        node=one.node,
        started_at=one.started_ms / 1000,
        ended_at=one.ended_ms / 1000,
        cause=one.cause,
        error=one.error,
    )


def _unknown(id: str) -> NotFound:
    return NotFound(f"there is no invocation {id}", hint="Results are kept 24 hours, dead letters 14 days.")


_FOREVER_MS = 2**50


def _read_cursor(cursor: str) -> tuple[int, int]:
    """(newest millisecond of the next page, how many of that listing were shown)."""
    if not cursor:
        return _FOREVER_MS, 0
    until, dash, skip = cursor.partition("-")
    if not dash or not (until.isascii() and until.isdigit() and skip.isascii() and skip.isdigit()):
        raise Invalid(f'"{cursor[:40]}" is not a cursor', hint="Use the one of the page before, or leave it out.")
    if len(until) > 16 or len(skip) > 4 or int(skip) >= LIST_MAX:
        raise Invalid("the listing is too long to go on", hint="Name a function and a state, or bounds of time.")
    return int(until), int(skip)


def _next_cursor(found: Sequence[Info], until_ms: int) -> str:
    """From the millisecond of the last row on, leaving out the rows of that millisecond that were shown.

    A waiting job does not tell since when it waits, so a page that ends in one goes on by count.
    """
    at_ms = _entered_ms(found[-1])
    if at_ms is None:
        return f"{until_ms}-{len(found)}"
    if at_ms == until_ms:
        return f"{until_ms}-{len(found)}"
    same = next(at for at, info in enumerate(found) if _entered_ms(info) == at_ms)
    return f"{at_ms}-{len(found) - same}"


def _entered_ms(info: Info) -> int | None:
    if info.state == "waiting":
        return None
    return {"delayed": info.due_ms, "running": info.began_ms}.get(info.state) or info.ended_ms
