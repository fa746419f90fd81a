"""What a fake instance is told to do: answers, failures, crashes, delays. For tests only."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from faas.drivers.api import Exit
from faas.wire import messages as m
from faas.wire.limits import PROTOCOL

Answer = tuple[int, bytes] | tuple[int, m.Pairs, bytes] | bytes | AsyncIterator[bytes]


class Fail(Exception):
    """Raise in `on_call`: the attempt is answered by an ERROR. Keywords become further keys of it."""

    def __init__(self, kind: str = "raised", type: str = "ValueError", message: str = "scripted", **more: Any) -> None:
        super().__init__(message)
        self.detail = {"kind": kind, "type": type, "message": message, **more}


class Crash(Exception):
    """Raise in `on_call`: the child dies, EXITED tells why, a new child comes."""

    def __init__(self, cause: Exit | None = None) -> None:
        super().__init__("scripted crash")
        self.cause = cause or Exit(signal=11, detail="scripted")


class Die(Exception):
    """Raise in `on_call`: the whole instance ends without a word."""

    def __init__(self, exit: Exit | None = None) -> None:
        super().__init__("scripted death")
        self.exit = exit or Exit(signal=9, detail="scripted")


class Inner(Protocol):
    """The side of a fake child that a call uses."""

    def send(self, message: m.Message) -> None: ...

    async def invoke(self, target: str, body: bytes, timeout_ms: int) -> m.Message: ...


@dataclass(slots=True)
class Call:
    """One INVOKE with its whole body, as `on_call` gets it."""

    instance: str
    number: int
    """Counts calls over all instances of the driver, from 1."""
    call_id: str
    kind: str
    method: str
    path: str
    query: str
    headers: m.Pairs
    timeout_ms: int
    extra: dict[str, Any]
    body: bytes
    child: Inner = field(repr=False)

    def log(self, text: str, level: str = "info") -> None:
        """Write a LOG line of this call."""
        self.child.send(m.log(self.call_id, level, int(time.time() * 1000), text, {}))

    async def invoke(self, target: str, body: bytes = b"", timeout_ms: int = 1_000) -> m.Message:
        """Call another function as a handler does; the first frame of the answer."""
        return await self.child.invoke(target, body, timeout_ms)


async def echo(call: Call) -> Answer:
    """The default script: the body comes back."""
    return 200, call.body


@dataclass(slots=True, kw_only=True)
class Script:
    """How every instance of a FakeDriver behaves; change its fields while it runs. Times in seconds."""

    start_delay: float = 0.0
    start_error: Exception | None = None
    """Raised by `start`."""
    connect_delay: float = 0.0
    silent: bool = False
    """Started, but never connects."""
    protocol: int = PROTOCOL
    init_delay: float = 0.0
    init_error: str | dict[str, Any] | None = None
    """INIT is answered by INIT_FAILED with this message or error map."""
    crash_on_init: Exit | None = None
    concurrency: int | None = None
    """In READY; None: what INIT asks for, or 1."""
    mode: Literal["sync", "threads", "async"] = "async"
    on_call: Callable[[Call], Awaitable[Answer]] = echo
    crash_on_calls: frozenset[int] = frozenset()
    """Numbers of calls (see `Call.number`) at which the child dies instead."""
    hang_on_calls: frozenset[int] = frozenset()
    deaf: bool = False
    """CANCEL is ignored."""
    mute: bool = False
    """The child does not answer PING, as if its event loop hung."""
    respawn: bool = True
    """A dead child is followed by a new one."""
