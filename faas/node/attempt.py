"""One try at a call inside one instance: the node's end of a stream of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from faas.errors import FaasError, ProtocolError
from faas.node.call import BodyStream, Call, Reply
from faas.node.failures import error_from
from faas.wire import messages as m
from faas.wire.limits import CHUNK_MAX, HEADERS_MAX, INLINE_MAX, WINDOW

_RUN_US_MAX = 1e12


class Runner(Protocol):
    """The instance an attempt runs in."""

    def ended(self, attempt: Attempt) -> None:
        """Its last frame has come, or its instance is gone."""

    def cancel(self, attempt: Attempt, reason: str) -> None:
        """Ask the handler to stop."""

    def overdue(self, attempt: Attempt) -> None:
        """It should have ended."""

    @property
    def info(self) -> dict[str, Any]:
        """What READY told."""


class Attempt:
    """Future of a reply, fed by frames. `instance.ended` runs once, when the instance is ready for more."""

    __slots__ = (
        "_body",
        "_send",
        "_sent",
        "_window",
        "began",
        "ended",
        "future",
        "instance",
        "reply",
        "run_s",
        "stream",
        "timer",
    )

    def __init__(
        self,
        instance: Runner,
        stream: int,
        send: Callable[[m.Message], None],
        began: float,
        future: asyncio.Future[Reply],
    ) -> None:
        self.instance = instance
        self.stream = stream
        self._send = send
        self.began = began
        """The loop's time of its INVOKE, in seconds; once it has ended, of its turn."""
        self.future = future
        self.reply: Reply | None = None
        self.ended = False
        self.run_s = 0.0
        """Seconds in the handler, as the instance told; 0: it did not."""
        self.timer: asyncio.TimerHandle | None = None
        """The deadline; cancelled when the attempt ends."""
        self._body = b""
        self._sent = 0
        self._window = 0

    def begin(self, call: Call, timeout_ms: int) -> None:
        """Write INVOKE. From here on the attempt has begun."""
        head = [call.id, call.kind, call.method, call.path, call.query, call.headers, timeout_ms, call.extra]
        body = call.body
        if len(body) <= INLINE_MAX:
            self._send([m.INVOKE, self.stream, head, body, True])
            return
        self._send([m.INVOKE, self.stream, head, b"", False])
        self._body = body
        self._window = WINDOW
        self._push_body()

    def _push_body(self) -> None:
        body = self._body
        while self._window > 0 and self._sent < len(body):
            size = min(CHUNK_MAX, self._window, len(body) - self._sent)
            self._send(m.chunk(self.stream, body[self._sent : self._sent + size]))
            self._sent += size
            self._window -= size
        if body and self._sent == len(body):
            self._body = b""
            self._send(m.end(self.stream, {}))

    def on_frame(self, message: m.Message) -> None:
        """Take a frame of this stream. Raises ProtocolError for one that does not belong here."""
        kind = message[0]
        if kind == m.REPLY:
            self._on_reply(message)
        elif kind == m.CHUNK:
            self._on_chunk(message[2])
        elif kind == m.END:
            self._on_end(message[2])
        elif kind == m.HEAD:
            self._on_head(message)
        elif kind == m.ERROR:
            self.fail(error_from(message[2]))
        elif kind == m.CREDIT:
            self._on_credit(message[2])
        else:
            raise ProtocolError(f"{m.NAMES[kind]} does not belong in a call")

    def _on_credit(self, size: object) -> None:
        if not isinstance(size, int) or size < 0:
            raise ProtocolError("CREDIT that is not a number of bytes")
        self._window = min(WINDOW, self._window + size)
        self._push_body()

    def _on_reply(self, message: m.Message) -> None:
        if self.reply is not None:
            raise ProtocolError("REPLY after HEAD")
        _kind, _stream, status, headers, body, info = message[:6]
        _check_head(status, headers)
        if not isinstance(body, bytes) or len(body) > INLINE_MAX:
            raise ProtocolError("REPLY with a body that is not bytes or is too large")
        reply = Reply(status, headers, body, run_ms=_run_ms(info))
        self.run_s = reply.run_ms / 1000
        self._resolve(reply)
        self._end()

    def _on_head(self, message: m.Message) -> None:
        if self.reply is not None:
            raise ProtocolError("second HEAD in one call")
        _check_head(message[2], message[3])
        self._resolve(Reply(message[2], message[3], stream=BodyStream(self._consumed)))

    def _on_chunk(self, data: object) -> None:
        if self.reply is None or self.reply.stream is None:
            raise ProtocolError("CHUNK before HEAD")
        if not isinstance(data, bytes) or len(data) > CHUNK_MAX:
            raise ProtocolError("CHUNK that is not bytes or is too large")
        if self.reply.stream.buffered + len(data) > WINDOW:
            raise ProtocolError("CHUNK without credit")
        self.reply.stream.feed(data)

    def _on_end(self, info: object) -> None:
        if self.reply is None or self.reply.stream is None:
            raise ProtocolError("END before HEAD")
        self.reply.run_ms = _run_ms(info)
        self.run_s = self.reply.run_ms / 1000
        self.reply.stream.finish()
        self._end()

    def _consumed(self, size: int) -> None:
        if not self.ended:
            self._send(m.credit(self.stream, size))

    def _resolve(self, reply: Reply) -> None:
        self.reply = reply
        if not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: FaasError) -> None:
        """The instance answered with an error, or is gone: the slot is free, the waiter learns why."""
        self._end()
        self.answer_error(error)

    def answer_error(self, error: FaasError) -> None:
        """Tell the waiter now, while the instance may still be at it (deadline, disconnect)."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # looked at: a waiter that left is not an unhandled error
        if self.reply is not None and self.reply.stream is not None:
            self.reply.stream.finish(error)

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._body = b""
            if self.timer is not None:
                self.timer.cancel()
            self.instance.ended(self)


def _check_head(status: object, headers: object) -> None:
    if not isinstance(status, int) or not 100 <= status <= 999:
        raise ProtocolError(f"reply status {status!r} is not an HTTP status")
    check_headers(headers)


def check_headers(headers: object) -> None:
    """Raises ProtocolError for what is not a list of pairs of bytes, or too long a one."""
    if not isinstance(headers, list) or len(headers) > HEADERS_MAX:
        raise ProtocolError("headers are not a list or are too many")
    for pair in headers:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, bytes) for part in pair):
            raise ProtocolError("a header is not a pair of bytes")


def _run_ms(info: object) -> float:
    """What the instance says it took. Its word goes into our averages, so it must be a time at all."""
    run_us = info.get("run_us", 0) if isinstance(info, dict) else 0
    return run_us / 1000 if isinstance(run_us, int | float) and 0 <= run_us <= _RUN_US_MAX else 0.0
