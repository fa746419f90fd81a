"""The queue's bells: work came, a cancel was asked for, a job ended. A hint, never the truth: pub/sub forgets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import structlog
from redis.asyncio import Redis

from faas.errors import Unavailable
from faas.store import keys
from faas.store.connection import translated
from faas.store.queue.model import Info, Limits
from faas.store.queue.moves import Moves
from faas.store.queue.reads import Reads
from faas.store.tasks import end

_LOOK_S = 1.0
"""Seconds after which a waiter looks for itself."""
_PING_S = 10.0
_BACKOFF_S = (0.05, 2.0)
_LIVE = (b"waiting", b"delayed", b"running")

_log = structlog.get_logger(__name__)


class Bells:
    """An async context manager: one connection that listens, for all who wait on this node.

    Args:
        redis: client for single commands.
        connect: makes the client that listens, without a reply timeout.
        on_work: called with APP/NAME when it may have work; with "" when something may have been missed.
        on_cancel: called with the id of a running job that should be cancelled. A bell that was missed shows at renew.
    """

    def __init__(
        self,
        redis: Redis,
        connect: Callable[[], Awaitable[Redis]],
        on_work: Callable[[str], None] = lambda function: None,
        on_cancel: Callable[[str], None] = lambda id: None,
    ) -> None:
        self._moves = Moves(redis, Limits())
        self._reads = Reads(redis)
        self._connect = connect
        self._on_work = on_work
        self._on_cancel = on_cancel
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen(), name="queue-bells")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        await end(self._task)

    async def listening(self) -> None:
        """Returns when the bells are heard. Nobody has to wait for it."""
        await self._listening.wait()

    async def wait(self, id: str, timeout_s: float) -> Info | None:
        """The job once it has ended, or as it is after `timeout_s`; None when it is unknown. Raises Unavailable."""
        heard = asyncio.Event()
        self._waiters.setdefault(id, set()).add(heard)
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            while await self._moves.run("watch", [id]) in _LIVE:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, _LOOK_S)):
                        await heard.wait()
                heard.clear()
        finally:
            self._waiters[id].discard(heard)
            if not self._waiters[id]:
                del self._waiters[id]
        return await self._reads.get(id)

    async def _listen(self) -> None:
        pause = _BACKOFF_S[0]
        while True:
            try:
                await self._follow()
            except Unavailable as error:
                _log.warning("queue: bells are not heard; looking once a second instead", error=error.message)
            if self._listening.is_set():
                pause = _BACKOFF_S[0]
            self._listening.clear()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _BACKOFF_S[1])

    async def _follow(self) -> None:
        redis = await self._connect()
        try:
            with translated():
                async with redis.pubsub() as pubsub:
                    await pubsub.subscribe(keys.BELL, keys.CANCEL, keys.DONE)
                    await self._hear(pubsub)
        finally:
            await redis.aclose()

    async def _hear(self, pubsub: Any) -> None:
        silent = 0
        while True:
            message = await pubsub.get_message(timeout=_PING_S)
            if message is None:
                silent += 1
                if silent > 1:
                    raise OSError("no answer to PING")
                await pubsub.ping()
                continue
            silent = 0
            self._ring(message["type"], message["channel"], message["data"])

    def _ring(self, kind: str, channel: Any, data: Any) -> None:
        name = channel.decode() if isinstance(channel, bytes) else str(channel or "")
        if kind == "subscribe":
            if name == keys.DONE:
                self._missed()
        elif kind != "message":
            return
        elif name == keys.BELL:
            self._on_work(data.decode())
        elif name == keys.CANCEL:
            self._on_cancel(data.decode())
        else:
            self._wake(data.decode())

    def _missed(self) -> None:
        """All three channels are heard now; what came before may have been missed."""
        self._listening.set()
        self._on_work("")
        for id in self._waiters:
            self._wake(id)

    def _wake(self, id: str) -> None:
        for heard in self._waiters.get(id, ()):
            heard.set()
