"""`context.step` inside an instance: asks the node what was kept, runs the step if nothing was, tells the result.

A kept result is its Content-Type, a line end, and the bytes of the body.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from faas import CallError, Context
from faas_runtime import replies
from faas_runtime.events import decode_body
from faas_runtime.outcalls import AsyncCalls, BlockingCalls, Opening

STEP = "$step"


class _Steps:
    """What both kinds share: a step in async code."""

    def __init__(self, open_call: Callable[[str, Any, str, str], Opening]) -> None:
        self._open = open_call

    async def step_async(self, context: Context, name: str, work: Callable[[], Any]) -> Any:
        kept = _has_attempts(context)
        if kept:
            try:
                return _unpack(await self._wait(self._ask(name)))
            except CallError as error:
                _only_unknown(error)
        value = work()
        packed = _pack(await value if inspect.isawaitable(value) else value)
        return _unpack(await self._wait(self._tell(name, packed)) if kept else packed)

    async def _wait(self, opening: Opening) -> Any:
        raise NotImplementedError

    def _ask(self, name: str) -> Opening:
        return self._open(STEP, None, "GET", quote(name, safe=""))

    def _tell(self, name: str, packed: bytes) -> Opening:
        return self._open(STEP, packed, "PUT", quote(name, safe=""))


class BlockingSteps(_Steps):
    """For plain handlers."""

    def __init__(self, calls: BlockingCalls) -> None:
        super().__init__(calls.open)
        self._exchange = calls.exchange

    def step(self, context: Context, name: str, work: Callable[[], Any]) -> Any:
        kept = _has_attempts(context)
        if kept:
            try:
                return _unpack(self._exchange(self._ask(name)))
            except CallError as error:
                _only_unknown(error)
        packed = _pack(_plain(work()))
        return _unpack(self._exchange(self._tell(name, packed)) if kept else packed)

    async def _wait(self, opening: Opening) -> Any:
        """On a loop of the handler's own: a thread waits, the loop goes on."""
        return await asyncio.to_thread(self._exchange, opening)


class AsyncSteps(_Steps):
    """For async handlers."""

    def __init__(self, calls: AsyncCalls) -> None:
        super().__init__(calls.open)
        self._exchange = calls.exchange

    def step(self, context: Context, name: str, work: Callable[[], Any]) -> Any:
        raise RuntimeError("context.step would stop this async handler's loop: use `await context.step.aio(...)`")

    async def _wait(self, opening: Opening) -> Any:
        return await self._exchange(opening)


def _has_attempts(context: Context) -> bool:
    """Only background calls have more than one."""
    return "attempt" in context.extra


def _only_unknown(error: CallError) -> None:
    """Nothing is kept under this name yet: go on. Anything else is the handler's to know."""
    if error.kind != "status" or error.status != 404:
        raise error


def _plain(value: Any) -> Any:
    if not inspect.isawaitable(value):
        return value
    if hasattr(value, "close"):
        value.close()  # never awaited, and meant to be
    raise TypeError("the step's function is async: use `await context.step.aio(...)` in an async handler")


def _pack(value: Any) -> bytes:
    if replies.is_stream(value):
        raise TypeError("a step returned a generator: return a list, so that it can be kept")
    try:
        label, body = replies.encode(value)
    except replies.BadReply as error:
        raise TypeError(f"context.step: {str(error).replace('return value', 'result')}. {error.hint}") from None
    return label.encode() + b"\n" + body


def _unpack(packed: bytes) -> Any:
    label, _, body = packed.partition(b"\n")
    return decode_body(label.decode(), body)
