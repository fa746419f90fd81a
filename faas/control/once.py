"""Idempotency keys of synchronous calls: one execution, its answer for everybody who repeats the request.

claim -> new:      run to the end, even if the caller leaves; keep what it answered
      -> busy:     409, the first one still runs
      -> done:     the first one's answer
      -> job:      an asynchronous call has this key: its answer, or 409 until it has one
      -> conflict: 422, another request came with this key
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from faas.control.kept import whole_body
from faas.control.whole import to_its_end
from faas.errors import Conflict, FaasError, Invalid, problem
from faas.model import Function, Version
from faas.node.call import Call, Reply
from faas.store.queue.claims import Claims
from faas.store.queue.model import Once, Result
from faas.store.queue.reads import Reads

GRACE_S = 30.0
"""How long a claim outlives the deadline of its call, in seconds: a node that dies frees the key then."""

Run = Callable[[Function, Version, Call], Awaitable[Reply]]


class Replay(NamedTuple):
    """The kept answer of an earlier call of this id."""

    id: str
    result: Result


class OnceOnly:
    """Runs calls with a key. Raises Unavailable when Redis does not answer: without it nothing can be promised."""

    def __init__(self, claims: Claims, reads: Reads, run: Run) -> None:
        self._claims = claims
        self._reads = reads
        self._run = run

    async def call(self, function: Function, version: Version, call: Call, key: str, caller: str) -> Reply | Replay:
        """Run `call`, or give the answer it had before.

        Args:
            caller: keys of different callers do not meet.

        Raises:
            Conflict: the first call with this key has not ended.
            Invalid: the key is too long, or came with another request.
            FaasError: what the call failed with, now or when it ran.
        """
        request = (call.method.encode(), call.path.encode(), call.query.encode(), call.body)
        once = Once.of(function.id.key, caller, key, *request)
        settings = version.settings
        hold_s = settings.start_timeout_s + settings.timeout_s + GRACE_S
        verdict, first = await self._claims.claim(once, call.id, hold_s)
        if verdict == "new":
            return await to_its_end(self._first(once, function, version, call))
        if verdict == "conflict":
            raise Invalid(
                f"this Idempotency-Key came with another request before: {first}",
                hint="Repeat exactly the same request, or use a new key.",
            )
        result = None if verdict == "busy" else await self._reads.result(first)
        if result is None:
            raise Conflict(
                f"the first call with this Idempotency-Key has not ended: {first}",
                hint="Repeat it in a moment: it will get the first one's answer.",
                retry_after_s=1.0,
                extra={"first": first},
            )
        return Replay(first, result)

    async def _first(self, once: Once, function: Function, version: Version, call: Call) -> Reply:
        began_ms = int(time.time() * 1000)
        key = function.id.key
        try:
            reply = await self._run(function, version, call)
            reply.body, reply.stream = await whole_body(reply), None
        except FaasError as error:
            if call.begun:
                result = Result(status=error.status, error=problem(error, call_id=call.id))
                await self._claims.settle(once, call.id, key, result, began_ms=began_ms, state="failed")
            else:
                await self._claims.drop(once, call.id)
            raise
        headers = tuple((bytes(name), bytes(value)) for name, value in reply.headers)
        result = Result(status=reply.status, headers=headers, body=reply.body)
        await self._claims.settle(once, call.id, key, result, began_ms=began_ms)
        return reply
