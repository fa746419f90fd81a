"""A call on its way in and a reply on its way out: what doors, control and pools hand to each other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from faas.errors import FaasError
from faas.wire.messages import Pairs


class Call:
    """One invocation as the caller asked for it. Mutable only by the door that builds it."""

    __slots__ = ("background", "begun", "body", "extra", "headers", "id", "kind", "method", "path", "query")

    def __init__(
        self,
        id: str,
        *,
        kind: str = "http",
        method: str = "POST",
        path: str = "/",
        query: str = "",
        headers: Pairs | None = None,
        body: bytes = b"",
        extra: dict[str, Any] | None = None,
        background: bool = False,
    ) -> None:
        self.id = id
        self.kind = kind
        self.method = method
        self.path = path
        self.query = query
        self.headers: Pairs = headers if headers is not None else []
        self.body = body
        self.extra: dict[str, Any] = extra if extra is not None else {}
        self.background = background
        """Nobody waits on the line: its timeout runs from its attempt's start, not from admission."""
        self.begun = False
        """Its INVOKE was written: the handler may have seen it."""


class BodyStream:
    """Chunks of a streamed reply. Reading gives credit back, so a slow reader slows the handler.

    Iterating raises the FaasError the attempt failed with, if it failed after the head.
    """

    __slots__ = ("_chunks", "_consumed", "_done", "_error", "_wake", "buffered", "on_error")

    def __init__(self, consumed: Callable[[int], None]) -> None:
        self._chunks: deque[bytes] = deque()
        self._consumed = consumed
        self._done = False
        self._error: FaasError | None = None
        self._wake: asyncio.Future[None] | None = None
        self.buffered = 0
        """Bytes received and not yet read."""
        self.on_error: Callable[[FaasError], None] = _nothing
        """Told of the error just before the reader is: the head is out, so no door can answer with it."""

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self.buffered += len(data)
        self._notify()

    def finish(self, error: FaasError | None = None) -> None:
        if not self._done:
            self._done = True
            self._error = error
            self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._chunks:
                data = self._chunks.popleft()
                yield data
                self.buffered -= len(data)
                self._consumed(len(data))
            if self._done:
                if self._error is not None:
                    self.on_error(self._error)
                    raise self._error
                return
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None


class Reply:
    """What an attempt answered. Either `body` or `stream` carries the content. Times in milliseconds.

    `abandon(reason)` tells the instance that nobody reads the rest of a stream; harmless after its end.
    """

    __slots__ = (
        "abandon",
        "body",
        "cold",
        "headers",
        "queue_ms",
        "run_ms",
        "start_ms",
        "status",
        "stream",
        "version",
    )

    def __init__(
        self,
        status: int,
        headers: Pairs,
        body: bytes = b"",
        stream: BodyStream | None = None,
        run_ms: float = 0.0,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.stream = stream
        self.run_ms = run_ms
        self.queue_ms = 0.0
        self.start_ms = 0.0
        self.cold = False
        self.version = 0
        self.abandon: Callable[[str], None] = _nothing


def _nothing(_told: object) -> None:
    return
