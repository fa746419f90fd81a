"""Calls on a connection: frames in, calls ready to serve and answers out. Waits for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faas import Context
from faas_runtime.link import Link
from faas_runtime.protocol import (
    CANCEL,
    CHUNK,
    CREDIT,
    DRAIN,
    END,
    ERROR,
    HEAD,
    INVOKE,
    PING,
    REPLY,
    WELCOME,
    WINDOW,
    LinkClosed,
    Message,
)  # fmt: skip


class Call:
    """A call the node has opened. `parts` is None once its body is complete."""

    __slots__ = ("body", "cancelled", "context", "credit", "head", "parts", "stream", "task", "wake")

    def __init__(self, stream: int, head: list[Any], body: bytes, last: bool) -> None:
        self.stream = stream
        self.head = head
        self.body = body
        self.parts: list[bytes] | None = None if last else []
        self.credit = WINDOW
        """Bytes of the reply that may be sent now."""
        self.cancelled = False
        self.context: Context | None = None
        self.task: Any = None
        self.wake: Callable[[], None] | None = None


class OutCall:
    """A call the function has opened."""

    __slots__ = ("credit", "done", "error", "headers", "parts", "status", "stream", "wake")

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.credit = WINDOW
        self.done = False
        self.error: dict[str, Any] | None = None
        self.status = 0
        self.headers: list[Any] = []
        self.parts: list[bytes] = []
        self.wake: Callable[[], None] | None = None


class Router:
    """Sorts what arrives. `deliver`, `cancel` and `ping` are what the way of serving makes of it."""

    def __init__(
        self,
        link: Link,
        *,
        deliver: Callable[[Call], None],
        cancel: Callable[[Call], None],
        ping: Callable[[int], None],
    ) -> None:
        self.link = link
        self.calls: dict[int, Call] = {}
        self.out: dict[int, OutCall] = {}
        self.draining = False
        self._deliver = deliver
        self._cancel = cancel
        self._ping = ping

    def dispatch(self, message: Message) -> None:
        """Take one frame. Raises LinkClosed for one that has no place here."""
        kind = message[0]
        if kind == INVOKE:
            self._invoke(message)
        elif kind == PING:
            self._ping(message[1])
        elif kind == DRAIN:
            self.draining = True
        elif kind in (CHUNK, END, CREDIT, CANCEL, ERROR) and message[1] in self.calls:
            self._to_call(kind, self.calls[message[1]], message)
        elif kind in (CHUNK, END, CREDIT, CANCEL, ERROR, HEAD, REPLY):
            out = self.out.get(message[1])
            if out is not None:  # else of a stream that has ended: both sides may be late
                self._to_out(kind, out, message)
        elif kind != WELCOME:
            raise LinkClosed(f"frame of type {kind} is not for a child that has its function")

    def _invoke(self, message: Message) -> None:
        call = Call(message[1], message[2], message[3], message[4])
        if call.stream in self.calls:
            raise LinkClosed(f"stream {call.stream} is open already")
        self.calls[call.stream] = call
        if call.parts is None:
            self._deliver(call)

    def _to_call(self, kind: int, call: Call, message: Message) -> None:
        if kind == CREDIT:
            call.credit += message[2]
        elif kind in (CANCEL, ERROR):  # ERROR: the caller's body broke off
            self._end_early(call)
        elif call.parts is None:
            raise LinkClosed(f"stream {call.stream}: its body was complete")
        elif kind == CHUNK:
            call.parts.append(message[2])
            self.link.send([CREDIT, call.stream, len(message[2])])
        else:
            call.body, call.parts = b"".join(call.parts), None
            self._deliver(call)
        if call.wake is not None:
            call.wake()

    def _end_early(self, call: Call) -> None:
        call.cancelled = True
        if call.context is not None:
            call.context.cancelled = True
        if call.parts is not None:  # not begun: nobody else will answer
            del self.calls[call.stream]
            message = "the call was cancelled before its body was complete"
            self.link.send([ERROR, call.stream, {"kind": "cancelled", "type": "Cancelled", "message": message}])
        else:
            self._cancel(call)

    def _to_out(self, kind: int, out: OutCall, message: Message) -> None:
        if kind == CREDIT:
            out.credit += message[2]
        elif kind == CHUNK:
            out.parts.append(message[2])
            self.link.send([CREDIT, out.stream, len(message[2])])
        elif kind == HEAD:
            out.status, out.headers = message[2], message[3]
        elif kind == REPLY:
            out.status, out.headers, out.parts, out.done = message[2], message[3], [message[4]], True
        elif kind == ERROR:
            out.error, out.done = message[2], True
        elif kind == END:
            out.done = True
        if out.wake is not None:
            out.wake()
