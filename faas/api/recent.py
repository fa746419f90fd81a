"""Answers about health, asked by anyone at any rate: given again for a moment, and never asked twice at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

AGE_S = 1.0
"""How long an answer is good for."""
ANSWER_S = 30.0
"""After which a question without an answer is given up. Who asks waits less."""


class Recent(Generic[_T]):
    """Call it like the question it wraps. Cancelling a caller does not cancel the question."""

    def __init__(self, ask: Callable[[], Awaitable[_T]]) -> None:
        self._ask = ask
        self._asked_at = 0.0
        self._answer: asyncio.Task[_T] | None = None

    async def __call__(self) -> _T:
        """The latest answer, or the error that came instead; TimeoutError after ANSWER_S."""
        now = asyncio.get_running_loop().time()
        if self._answer is None or (self._answer.done() and now - self._asked_at >= AGE_S):
            self._asked_at = now
            self._answer = asyncio.create_task(self._bounded(), name="probe")
            self._answer.add_done_callback(_look)
        return await asyncio.shield(self._answer)

    async def close(self) -> None:
        """Give up a question under way."""
        if self._answer is not None:
            self._answer.cancel()
            await asyncio.wait({self._answer})

    async def _bounded(self) -> _T:
        async with asyncio.timeout(ANSWER_S):
            return await self._ask()


def _look(task: asyncio.Task[Any]) -> None:
    """Everyone who asked may have left: the exception counts as seen."""
    if not task.cancelled():
        task.exception()
