"""Calls that handlers make: an instance opens a stream, the node runs the call and answers on it.

The call needs no network inside the container. The chain of functions above travels with it; a chain that
gets too long is a loop. What one instance may have open and in memory is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from faas.errors import CallLoop, FaasError, ProtocolError, TooLarge
from faas.node.call import Call, Reply
from faas.node.instance import Instance
from faas.wire import messages as m
from faas.wire.limits import CHUNK_MAX, INLINE_MAX, WINDOW

log = structlog.get_logger(__name__)

OPEN_MAX = 256
"""Calls one instance may have open."""
BODY_MAX = 16 * 1024 * 1024
DEPTH_MAX = 16
"""Functions in a chain of calls."""


class Invoke(Protocol):
    """Runs a call to `target` on behalf of `caller` (a function key); given by the control room."""

    def __call__(self, target: str, call: Call, *, timeout_s: float) -> Awaitable[Reply]: ...


class _Open:
    __slots__ = ("body", "head", "size", "task", "wake", "window")

    def __init__(self, head: list[Any]) -> None:
        self.head = head
        self.body: list[bytes] = []
        self.size = 0
        self.window = WINDOW
        self.wake: asyncio.Event = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Outgoing:
    """Streams opened by instances of this node."""

    def __init__(self, invoke: Invoke, new_call_id: Callable[[], str]) -> None:
        self._invoke = invoke
        self._new_call_id = new_call_id
        self._open: dict[tuple[str, int], _Open] = {}
        self._count: dict[str, int] = {}

    def on_frame(self, instance: Instance, message: m.Message) -> None:
        """Take a frame of an odd stream. Raises ProtocolError for one that does not belong."""
        kind, stream = message[0], message[1]
        if not isinstance(stream, int):
            raise ProtocolError(f"{m.NAMES[kind]} whose stream is not a number")
        key = (instance.id, stream)
        if kind == m.INVOKE:
            self._begin(instance, key, message)
            return
        one = self._open.get(key)
        if one is None:
            if kind in (m.CREDIT, m.CANCEL):
                return  # crossed the end of its stream
            raise ProtocolError(f"{m.NAMES[kind]} for a call that is not open")
        if kind == m.CHUNK:
            self._chunk(instance, stream, one, message[2])
        elif kind == m.END:
            self._run(instance, key, one)
        elif kind == m.CREDIT:
            if not isinstance(message[2], int) or message[2] < 0:
                raise ProtocolError("CREDIT that is not a number of bytes")
            one.window = min(WINDOW, one.window + message[2])
            one.wake.set()
        elif kind == m.CANCEL:
            self._cancel(key)
        else:
            raise ProtocolError(f"{m.NAMES[kind]} from the side that made the call")

    def forget(self, instance: Instance) -> None:
        """The instance's child is gone: its calls have nobody to answer to."""
        for key in [key for key in self._open if key[0] == instance.id]:
            self._cancel(key)

    def _begin(self, instance: Instance, key: tuple[str, int], message: m.Message) -> None:
        if key in self._open or self._count.get(instance.id, 0) >= OPEN_MAX:
            raise ProtocolError("a stream opened twice, or too many open calls")
        _kind, _stream, head, body, last = message[:5]
        if not isinstance(head, list) or len(head) < 8 or not isinstance(body, bytes):
            raise ProtocolError("INVOKE with a head or body of the wrong type")
        one = self._open[key] = _Open(head)
        self._count[instance.id] = self._count.get(instance.id, 0) + 1
        if body:
            one.body.append(body)
        if last:
            self._run(instance, key, one)

    def _chunk(self, instance: Instance, stream: int, one: _Open, data: object) -> None:
        if one.task is not None or not isinstance(data, bytes) or len(data) > CHUNK_MAX:
            raise ProtocolError("CHUNK after END, or not bytes, or too large")
        one.size += len(data)
        if one.size > BODY_MAX + WINDOW:
            raise ProtocolError("CHUNK beyond the body limit")
        one.body.append(data)
        instance.link.send(m.credit(stream, len(data)))

    def _run(self, instance: Instance, key: tuple[str, int], one: _Open) -> None:
        if one.task is not None:
            raise ProtocolError("END twice")
        one.task = asyncio.create_task(self._answer(instance, key, one), name=f"call by {instance.id}")

    def _cancel(self, key: tuple[str, int]) -> None:
        one = self._open.get(key)
        if one is None:
            return
        if one.task is not None:
            one.task.cancel()
        else:
            self._close(key)

    def _close(self, key: tuple[str, int]) -> None:
        if self._open.pop(key, None) is not None:
            left = self._count[key[0]] - 1
            if left:
                self._count[key[0]] = left
            else:
                del self._count[key[0]]

    async def _answer(self, instance: Instance, key: tuple[str, int], one: _Open) -> None:
        stream = key[1]
        try:
            target, call, timeout_s = self._call_of(instance, one)
            reply = await self._invoke(target, call, timeout_s=timeout_s)
            await self._reply(instance, stream, one, reply)
        except FaasError as error:
            instance.link.send(m.error(stream, _detail(error)))
        except asyncio.CancelledError:
            instance.link.send(m.error(stream, {"kind": "cancelled", "type": "Cancelled", "message": "call cancelled"}))
        except Exception as error:
            log.exception("a call between functions failed; this is a defect", instance=instance.id)
            instance.link.send(m.error(stream, {"kind": "raised", "type": type(error).__name__, "message": "platform"}))
        finally:
            self._close(key)

    def _call_of(self, instance: Instance, one: _Open) -> tuple[str, Call, float]:
        _id, _kind, method, target, query, headers, timeout_ms, extra = one.head[:8]
        extra = extra if isinstance(extra, dict) else {}
        if one.size > BODY_MAX:
            raise TooLarge(f"the call's body has {one.size} bytes; the limit is {BODY_MAX}")
        above = extra.get("chain")
        # The instance can shorten the chain it tells; its own deadline then ends the loop.
        chain = [*(above if isinstance(above, list) else []), str(instance.version_id)]
        if len(chain) > DEPTH_MAX:
            raise CallLoop(
                f"functions call each other {len(chain)} deep, the limit is {DEPTH_MAX}: {' -> '.join(chain[-4:])}",
                hint="Look for a function that calls itself, directly or through others.",
            )
        call = Call(
            self._new_call_id(),
            kind="call",
            method=str(method),
            query=str(query),
            headers=[(bytes(name), bytes(value)) for name, value in headers],
            body=b"".join(one.body),
            extra={
                "chain": chain,
                "parent": str(_id)[:64],
                **({"trace": extra["trace"]} if isinstance(extra.get("trace"), str) else {}),
            },
        )
        one.body = []
        return str(target), call, max(0.001, float(timeout_ms) / 1000)

    async def _reply(self, instance: Instance, stream: int, one: _Open, reply: Reply) -> None:
        info = {"run_us": int(reply.run_ms * 1000)}
        if reply.stream is None and len(reply.body) <= INLINE_MAX:
            instance.link.send(m.reply(stream, reply.status, reply.headers, reply.body, info))
            return
        instance.link.send(m.head(stream, reply.status, reply.headers))
        if reply.stream is None:
            await self._chunks(instance, stream, one, reply.body)
        else:
            async for data in reply.stream:
                await self._chunks(instance, stream, one, data)
        instance.link.send(m.end(stream, info))

    async def _chunks(self, instance: Instance, stream: int, one: _Open, data: bytes) -> None:
        at = 0
        while at < len(data):
            while one.window <= 0:
                one.wake.clear()
                await one.wake.wait()
            size = min(CHUNK_MAX, one.window, len(data) - at)
            instance.link.send(m.chunk(stream, data[at : at + size]))
            one.window -= size
            at += size


def _detail(error: FaasError) -> dict[str, Any]:
    kind = "caller" if error.fault == "caller" else "raised"
    return {
        "kind": kind,
        "type": str(error.extra.get("type_name") or type(error).__name__),
        "message": error.message,
        "hint": error.hint,
        "status": error.status,
        "traceback": str(error.extra.get("traceback", "")),
    }
