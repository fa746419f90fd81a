"""Steps of background calls, and the door for all that a function asks of the platform.

A handler that runs `context.step("charge", fn)` asks here whether that step was done by an earlier attempt, and tells
the result when it has been done. Steps belong to the job: they are dropped with it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol
from urllib.parse import unquote

from faas.control.held import Held, Holdings
from faas.errors import Conflict, Invalid, NotFound, TooLarge
from faas.names import parse_key
from faas.node.call import Call, Reply
from faas.store.queue.queue import Queue

STEP = "$step"
"""Target of PROTOCOL.md, section 5, "Calls to the platform"."""
NAME_MAX = 200
RESULT_MAX = 1024 * 1024
"""Bytes of one step's result."""


class Functions(Protocol):
    """Runs a call to another function."""

    def __call__(self, target: str, call: Call, *, timeout_s: float) -> Awaitable[Reply]: ...


class Platform:
    """Takes every call that a handler makes: to a function, or to the platform itself."""

    def __init__(self, functions: Functions, queue: Queue, holdings: Holdings) -> None:
        self._functions = functions
        self._queue = queue
        self._holdings = holdings

    async def call(self, target: str, call: Call, *, timeout_s: float) -> Reply:
        """Answer one call. Raises like the function it calls, or as `_step` does."""
        if not target.startswith("$"):
            return await self._functions(target, call, timeout_s=timeout_s)
        if target != STEP:
            raise NotFound(f'the platform has no "{target[:80]}" to call', hint=f"It has {STEP}.")
        return await self._step(call)

    async def _step(self, call: Call) -> Reply:
        """GET: 200 with the kept result, or 404. PUT: keep the body, and answer with what is kept.

        Raises:
            NotFound: the call that asks is no background call of this node.
            Conflict: its lease was lost; another node runs it.
            Invalid, TooLarge: name or result are out of bounds.
        """
        name = unquote(call.query)
        if not 1 <= len(name) <= NAME_MAX:
            raise Invalid(f"a step's name has 1 to {NAME_MAX} characters, not {len(name)}")
        held = self._held_by(call)
        if held.steps is None:
            held.steps = await self._queue.steps(held.job.id)
        if call.method == "GET":
            known = held.steps.get(name)
            return Reply(404, []) if known is None else Reply(200, [], known)
        if call.method != "PUT":
            raise Invalid(f"{STEP} takes GET and PUT, not {call.method[:20]}")
        if len(call.body) > RESULT_MAX:
            raise TooLarge(
                f'the result of step "{name[:80]}" has {len(call.body)} bytes; the limit is {RESULT_MAX}',
                hint="Store it elsewhere and return where.",
            )
        kept = await self._queue.keep_step(held.job.id, held.job.take, name, call.body)
        if kept is None:
            raise Conflict("this attempt lost its lease: another one runs the call now")
        held.steps[name] = kept
        return Reply(200, [], kept)

    def _held_by(self, call: Call) -> Held:
        held = self._holdings.get(str(call.extra.get("parent", "")))
        chain = call.extra.get("chain") or [""]
        # The node wrote the end of the chain: an instance can name only jobs of its own function.
        if held is None or str(chain[-1]).partition("@")[0] != str(parse_key(held.job.function)):
            raise NotFound("steps are kept for background calls only, while their attempt runs")
        return held
