"""One try at a call inside one instance: the node's end of a stream of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from faas.errors import (
    BadReply,
    BadRequest,
    CallerError,
    FaasError,
    HandlerRaised,
    ProtocolError,
    StartFailed,
    all_errors,
)
from faas.node.call import BodyStream, Call, Reply
from faas.wire import messages as m
from faas.wire.limits import CHUNK_MAX, HEADERS_MAX, INLINE_MAX, WINDOW

_CALLER_BY_STATUS = {cls.status: cls for cls in all_errors() if issubclass(cls, CallerError)}


def error_from(detail: object) -> FaasError:
    """The error an ERROR or INIT_FAILED frame describes. Every field is the instance's word: bounded, typed."""
    if not isinstance(detail, dict):
        raise ProtocolError("error is not a map")
    kind, name = str(detail.get("kind", "raised")), str(detail.get("type", ""))[:200]
    message, hint = str(detail.get("message", ""))[:8192], str(detail.get("hint", ""))[:1024]
    extra: dict[str, Any] = {"type_name": name} if name else {}
    if trace := detail.get("traceback"):
        extra["traceback"] = str(trace)
    if kind == "caller":
        status = detail.get("status", 400)
        return _CALLER_BY_STATUS.get(status if isinstance(status, int) else 400, BadRequest)(message, hint=hint)
    text = f"{name}: {message}" if name else message
    if kind == "start":
        return StartFailed(text, hint=hint, extra=extra)
    if kind == "reply":
        return BadReply(message, hint=hint, extra=extra)
    return HandlerRaised(text, hint=hint, extra=extra)


class Attempt:
    """Future of a reply, fed by frames. `release` runs once, when the instance says it is ready for more."""

    __slots__ = (
        "_body",
        "_release",
        "_send",
        "_sent",
        "_window",
        "ended",
        "future",
        "reply",
        "stream",
        "timer",
    )

    def __init__(
        self,
        stream: int,
        send: Callable[[m.Message], None],
        release: Callable[[Attempt], None],
        future: asyncio.Future[Reply],
    ) -> None:
        self.stream = stream
        self._send = send
        self._release = release
        self.future = future
        self.reply: Reply | None = None
        self.ended = False
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
            self._window = min(WINDOW, self._window + int(message[2]))
            self._push_body()
        else:
            raise ProtocolError(f"{m.NAMES[kind]} does not belong in a call")

    def _on_reply(self, message: m.Message) -> None:
        if self.reply is not None:
            raise ProtocolError("REPLY after HEAD")
        _kind, _stream, status, headers, body, info = message[:6]
        _check_head(status, headers)
        if not isinstance(body, bytes) or len(body) > INLINE_MAX:
            raise ProtocolError("REPLY with a body that is not bytes or is too large")
        self._resolve(Reply(status, headers, body, run_ms=_run_ms(info)))
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
        self.answer_error(error)
        self._end()

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
            self._release(self)


def _check_head(status: object, headers: object) -> None:
    if not isinstance(status, int) or not 100 <= status <= 999:
        raise ProtocolError(f"reply status {status!r} is not an HTTP status")
    if not isinstance(headers, list) or len(headers) > HEADERS_MAX:
        raise ProtocolError("reply headers are not a list or are too many")
    for pair in headers:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, bytes) for part in pair):
            raise ProtocolError("reply header is not a pair of bytes")


def _run_ms(info: object) -> float:
    run_us = info.get("run_us", 0) if isinstance(info, dict) else 0
    return run_us / 1000 if isinstance(run_us, int | float) else 0.0
