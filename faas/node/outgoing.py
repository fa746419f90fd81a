"""Calls that handlers make: an instance opens a stream, the node runs the call and answers on it.

The call needs no network inside the container. The chain of functions above travels with it; a chain that
gets too long is a loop. What one instance may have open and in memory is bounded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from faas.errors import CallLoop, FaasError, ProtocolError
from faas.node.answering import Answering, Held
from faas.node.attempt import check_headers
from faas.node.call import Call, Reply
from faas.node.instance import Instance
from faas.wire import messages as m

OPEN_MAX = 256
"""Calls one instance may have open."""
BODY_MAX = 16 * 1024 * 1024
HELD_MAX = 256 * 1024 * 1024
"""Bytes of large bodies of such calls in the node's memory at once."""
DAY_S = 86400.0
DEPTH_MAX = 16
"""Functions in a chain of calls."""


class Invoke(Protocol):
    """Runs a call to `target` on behalf of `caller` (a function key); given by the control room."""

    def __call__(self, target: str, call: Call, *, timeout_s: float) -> Awaitable[Reply]: ...


class Outgoing:
    """Streams opened by instances of this node."""

    def __init__(self, invoke: Invoke, new_call_id: Callable[[], str]) -> None:
        self._invoke = invoke
        self._new_call_id = new_call_id
        self._held = Held(HELD_MAX)
        self._callers: dict[str, Answering] = {}

    def on_frame(self, instance: Instance, message: m.Message) -> None:
        """Take a frame of an odd stream. Raises ProtocolError for one that does not belong."""
        caller = self._callers.get(instance.id)
        if caller is None:
            peer = _Caller(instance, self._invoke, self._new_call_id)
            caller = self._callers[instance.id] = Answering(peer, self._held)
        caller.on_frame(message)

    def forget(self, instance: Instance) -> None:
        """The instance's child is gone: its calls have nobody to answer to, and the next child counts from 1 again."""
        caller = self._callers.pop(instance.id, None)
        if caller is not None:
            caller.forget()


class _Caller:
    """An instance as a `Peer`. Everything it says is hostile until checked."""

    open_max = OPEN_MAX
    body_max = BODY_MAX

    def __init__(self, instance: Instance, invoke: Invoke, new_call_id: Callable[[], str]) -> None:
        self.name = instance.id
        self.send = instance.link.send
        self._instance = instance
        self._invoke = invoke
        self._new_call_id = new_call_id

    def check(self, head: list[Any]) -> None:
        call, kind, method, target, query, headers, timeout_ms = head[:7]
        if not all(isinstance(text, str) for text in (call, kind, method, target, query)):
            raise ProtocolError("INVOKE with a head whose texts are none")
        if not isinstance(timeout_ms, int | float):
            raise ProtocolError("INVOKE without a timeout")
        check_headers(headers)

    def run(self, head: list[Any], body: bytes) -> Awaitable[Reply]:
        id, _kind, method, target, query, headers, timeout_ms, extra = head[:8]
        extra = extra if isinstance(extra, dict) else {}
        call = Call(
            self._new_call_id(),
            kind="call",
            method=method,
            query=query,
            headers=[(name, value) for name, value in headers],
            body=body,
            extra={
                "chain": self._chain(extra.get("chain")),
                "parent": id[:64],
                **({"trace": extra["trace"]} if isinstance(extra.get("trace"), str) else {}),
            },
        )
        return self._invoke(target, call, timeout_s=min(DAY_S, max(0.001, timeout_ms / 1000)))

    def _chain(self, above: object) -> list[str]:
        # The instance can shorten the chain it tells; its own deadline then ends the loop.
        told = [str(one)[:200] for one in above[:DEPTH_MAX]] if isinstance(above, list) else []
        chain = [*told, str(self._instance.version_id)]
        if len(chain) > DEPTH_MAX:
            raise CallLoop(
                f"functions call each other {len(chain)} deep, the limit is {DEPTH_MAX}: {' -> '.join(chain[-4:])}",
                hint="Look for a function that calls itself, directly or through others.",
            )
        return chain

    def head(self, stream: int, reply: Reply) -> m.Message:
        return m.head(stream, reply.status, reply.headers)

    def info(self, reply: Reply) -> dict[str, Any]:
        return {"run_us": int(reply.run_ms * 1000)}

    def detail(self, error: FaasError) -> dict[str, Any]:
        kind = "caller" if error.fault == "caller" else "raised"
        return {
            "kind": kind,
            "type": str(error.extra.get("type_name") or type(error).__name__),
            "message": error.message,
            "hint": error.hint,
            "status": error.status,
            "traceback": str(error.extra.get("traceback", "")),
        }
