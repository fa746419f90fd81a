"""Ending a task for certain."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_S = 0.5


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel until it has ended. Once is not enough for a task inside a Redis command on Python 3.11: `wait_for`
    drops a cancellation that arrives together with the result it waits for.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_S)
