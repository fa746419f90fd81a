"""Streams that another process opens: its calls are put together, run and answered, with credits both ways.

INVOKE [CHUNK ... END] --> peer.run(head, body), in a task --> REPLY | HEAD CHUNK ... END | ERROR

Instances open such streams (`outgoing.py`), and so do the node's HTTP processes. What differs is the peer's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol

import structlog

from faas.errors import FaasError, ProtocolError, TooLarge, TooManyRequests
from faas.node.call import Reply
from faas.units import show_size
from faas.wire import messages as m
from faas.wire.limits import CHUNK_MAX, INLINE_MAX, WINDOW

log = structlog.get_logger(__name__)

SMALL = 64 * 1024
"""Bodies up to this size, in bytes, are not counted."""


class Held:
    """Bytes of large bodies that may be in memory at once, over all peers that share it."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def claim(self, size: int) -> bool:
        """Claim `size` bytes; False when they are not there."""
        if self.used + size > self.total:
            return False
        self.used += size
        return True


class Peer(Protocol):
    """The side that opens streams: what it may do, and how it is spoken to."""

    name: str
    """For logs."""
    open_max: int
    """Streams it may have open."""
    body_max: int
    """Bytes of one body."""

    def send(self, message: m.Message) -> None:
        """Write one frame; nothing when the other side is gone. Raises ProtocolError for one that is too large."""

    def check(self, head: list[Any]) -> None:
        """`head` has eight elements at least; raises ProtocolError unless they are what they should be."""

    def run(self, head: list[Any], body: bytes) -> Awaitable[Reply]:
        """Run the call whose checked head this is. Raises FaasError."""

    def head(self, stream: int, reply: Reply) -> m.Message:
        """HEAD of a streamed reply."""

    def info(self, reply: Reply) -> dict[str, Any]:
        """The last element of REPLY and END."""

    def detail(self, error: FaasError) -> dict[str, Any]:
        """The map in ERROR."""


class _Open:
    """One stream."""

    __slots__ = ("claimed", "head", "parts", "refused", "size", "task", "wake", "window")

    def __init__(self, head: list[Any]) -> None:
        self.head = head
        self.parts: list[bytes] = []
        self.size = 0
        self.claimed = 0
        self.refused: FaasError | None = None
        """Why its body is thrown away as it comes; told when it has come."""
        self.window = WINDOW
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Answering:
    """All streams of one peer."""

    def __init__(self, peer: Peer, held: Held) -> None:
        self._peer = peer
        self._held = held
        self._open: dict[int, _Open] = {}
        self._gone = False

    def on_frame(self, message: m.Message) -> None:
        """Take a frame of one of the peer's streams. Raises ProtocolError for one that does not belong."""
        kind, stream = message[0], message[1]
        if not isinstance(stream, int):
            raise ProtocolError(f"{m.NAMES[kind]} whose stream is not a number")
        if kind == m.INVOKE:
            self._begin(stream, message)
            return
        one = self._open.get(stream)
        if one is None:
            if kind in (m.CREDIT, m.CANCEL):
                return  # crossed the end of its stream
            raise ProtocolError(f"{m.NAMES[kind]} for a call that is not open")
        if kind == m.CHUNK:
            self._chunk(stream, one, message[2])
        elif kind == m.END:
            self._run(stream, one)
        elif kind == m.CREDIT:
            if not isinstance(message[2], int) or message[2] < 0:
                raise ProtocolError("CREDIT that is not a number of bytes")
            one.window = min(WINDOW, one.window + message[2])
            one.wake.set()
        elif kind == m.CANCEL:
            self._cancel(stream, one)
        else:
            raise ProtocolError(f"{m.NAMES[kind]} from the side that made the call")

    def forget(self) -> None:
        """The peer is gone: its calls have nobody to answer to. Whoever is there next must not get the answers."""
        self._gone = True
        for stream, one in list(self._open.items()):
            self._cancel(stream, one)

    def _begin(self, stream: int, message: m.Message) -> None:
        if stream in self._open or len(self._open) >= self._peer.open_max:
            raise ProtocolError("a stream opened twice, or too many open calls")
        _kind, _stream, head, body, last = message[:5]
        if not isinstance(head, list) or len(head) < 8 or not isinstance(body, bytes):
            raise ProtocolError("INVOKE with a head or body of the wrong type")
        self._peer.check(head)
        one = self._open[stream] = _Open(head)
        if body:
            self._keep(one, body)
        if last:
            self._run(stream, one)

    def _chunk(self, stream: int, one: _Open, data: object) -> None:
        if one.task is not None or not isinstance(data, bytes) or len(data) > CHUNK_MAX:
            raise ProtocolError("CHUNK after END, or not bytes, or too large")
        self._keep(one, data)
        self._send(m.credit(stream, len(data)))

    def _keep(self, one: _Open, data: bytes) -> None:
        if one.refused is not None:
            return
        one.size += len(data)
        if one.size > self._peer.body_max:
            self._refuse(one, TooLarge(f"the call's body has more than {show_size(self._peer.body_max)}, the limit"))
        elif one.size > SMALL and not self._held.claim(one.size - one.claimed):
            full = f"bodies of calls fill the {show_size(self._held.total)} that the node keeps for them"
            self._refuse(one, TooManyRequests(full, hint="Retry in a moment.", retry_after_s=1.0))
        else:
            one.claimed = one.size if one.size > SMALL else 0
            one.parts.append(data)

    def _refuse(self, one: _Open, error: FaasError) -> None:
        one.refused = error
        one.parts = []
        self._give_back(one)

    def _give_back(self, one: _Open) -> None:
        self._held.used -= one.claimed
        one.claimed = 0

    def _run(self, stream: int, one: _Open) -> None:
        if one.task is not None:
            raise ProtocolError("END twice")
        one.task = asyncio.create_task(self._answer(stream, one), name="answering")
        one.task.add_done_callback(lambda task: self._done(stream, one, task))

    def _done(self, stream: int, one: _Open, task: asyncio.Task[None]) -> None:
        self._close(stream, one)
        if task.cancelled():  # before its first step: whatever began answers itself
            self._fail(stream, _CANCELLED)

    def _cancel(self, stream: int, one: _Open) -> None:
        if one.task is not None:
            one.task.cancel()
        else:
            self._fail(stream, _CANCELLED)
            self._close(stream, one)

    def _send(self, message: m.Message) -> None:
        if not self._gone:
            self._peer.send(message)

    def _fail(self, stream: int, detail: dict[str, Any]) -> None:
        try:
            self._send(m.error(stream, detail))
        except ProtocolError:  # larger than a frame
            short = {**detail, "message": str(detail.get("message", ""))[:1024], "traceback": "", "extra": {}}
            self._send(m.error(stream, short))

    def _close(self, stream: int, one: _Open) -> None:
        if self._open.get(stream) is one:
            del self._open[stream]
        self._give_back(one)

    async def _answer(self, stream: int, one: _Open) -> None:
        peer = self._peer
        reply: Reply | None = None
        try:
            if one.refused is not None:
                raise one.refused
            body = one.parts[0] if len(one.parts) == 1 else b"".join(one.parts)
            one.parts = []
            reply = await peer.run(one.head, body)
            await self._reply(stream, one, reply)
            return
        except FaasError as error:
            detail = peer.detail(error)
        except asyncio.CancelledError:
            detail = _CANCELLED
        except Exception as error:
            log.exception("a call from another process failed; this is a defect", peer=peer.name)
            detail = {"kind": "raised", "type": type(error).__name__, "message": "platform"}
        if reply is not None:
            reply.abandon("nobody reads the rest")
        self._fail(stream, detail)

    async def _reply(self, stream: int, one: _Open, reply: Reply) -> None:
        peer = self._peer
        if reply.stream is None and len(reply.body) <= INLINE_MAX:
            self._send(m.reply(stream, reply.status, reply.headers, reply.body, peer.info(reply)))
            return
        self._send(peer.head(stream, reply))
        if reply.stream is None:
            await self._chunks(stream, one, reply.body)
        else:
            async for data in reply.stream:
                await self._chunks(stream, one, data)
        self._send(m.end(stream, peer.info(reply)))

    async def _chunks(self, stream: int, one: _Open, data: bytes) -> None:
        at = 0
        while at < len(data):
            while one.window <= 0:
                one.wake.clear()
                await one.wake.wait()
            size = min(CHUNK_MAX, one.window, len(data) - at)
            self._send(m.chunk(stream, data[at : at + size]))
            one.window -= size
            at += size


_CANCELLED = {"kind": "cancelled", "type": "Cancelled", "message": "call cancelled"}
