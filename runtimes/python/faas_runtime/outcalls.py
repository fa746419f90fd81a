"""`faas.call` inside an instance: INVOKE frames that the function opens."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

from faas._context import calling

from faas import CallError
from faas_runtime import replies
from faas_runtime.events import decode_body
from faas_runtime.gate import Gate
from faas_runtime.link import Link
from faas_runtime.protocol import CANCEL, CHUNK, CHUNK_MAX, END, INLINE_MAX, INVOKE, Message
from faas_runtime.streams import OutCall, Router
from faas_runtime.waiter import Waiter

_DEFAULT_MS = 30_000


class Opening:
    """A call about to be made: its INVOKE, and the pieces that follow when the body is large."""

    def __init__(
        self, stream: int, target: str, data: Any, timeout: float | None, *, method: str = "POST", query: str = ""
    ) -> None:
        if not isinstance(target, str) or not target:
            raise ValueError(f"faas.call needs a function's name such as 'resize.shop', not {target!r}")
        headers, body = _body(data)
        inline = len(body) <= INLINE_MAX
        head = _head(target, headers, timeout)
        head[2], head[4] = method, query
        self.out = OutCall(stream)
        self.invoke: Message = [INVOKE, stream, head, body if inline else b"", inline]
        self.pieces: list[bytes] = [] if inline else [body[i : i + CHUNK_MAX] for i in range(0, len(body), CHUNK_MAX)]

    def result(self) -> Any:
        """What the other function returned. Raises CallError."""
        out = self.out
        if out.error is not None:
            raise _failed(out.error)
        body = b"".join(out.parts)
        label = next((v.decode("latin-1") for n, v in out.headers if bytes(n).lower() == b"content-type"), "")
        if out.status >= 400:
            text = body[:500].decode("utf-8", "replace")
            raise CallError(
                f"it answered with status {out.status}: {text}", kind="status", status=out.status, body=body
            )
        return decode_body(label, body) if body else None


def _body(data: Any) -> tuple[list[tuple[bytes, bytes]], bytes]:
    if data is None:
        return [], b""
    try:
        label, body = replies.encode(data)
    except replies.BadReply as error:
        raise TypeError(f"faas.call: {str(error).replace('return value', 'data')}. {error.hint}") from None
    return [(b"content-type", label.encode())], body


def _head(target: str, headers: Any, timeout: float | None) -> list[Any]:
    """The head of INVOKE: deadline, trace and chain go on from the call that asks; its id names the parent."""
    context = calling.get()
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r} is not more than 0 seconds")
    wanted = _DEFAULT_MS if timeout is None else int(timeout * 1000)
    if context is None:
        return ["", "call", "POST", target, "", headers, wanted, {}]
    left = int(context.remaining() * 1000)
    extra = {key: context.extra[key] for key in ("trace", "chain") if key in context.extra}
    return [context.call_id, "call", "POST", target, "", headers, left if timeout is None else min(wanted, left), extra]


def _failed(error: Any) -> CallError:
    detail = error if isinstance(error, dict) else {}
    status = detail.get("status")
    return CallError(
        str(detail.get("message") or "the call failed"),
        kind=str(detail.get("kind") or ""),
        type=str(detail.get("type") or ""),
        status=status if isinstance(status, int) else 0,
        hint=str(detail.get("hint") or ""),
    )


class BlockingCalls:
    """For plain handlers; any thread may call."""

    def __init__(self, link: Link, router: Router, waiter: Waiter, gate: Gate) -> None:
        self._link = link
        self._router = router
        self._waiter = waiter
        self._gate = gate
        self._streams = itertools.count(1, 2)

    def call(self, target: str, data: Any, timeout: float | None) -> Any:
        return self.exchange(Opening(next(self._streams), target, data, timeout))

    def open(self, target: str, data: Any, method: str, query: str) -> Opening:
        """A call to the platform, about to be made."""
        return Opening(next(self._streams), target, data, None, method=method, query=query)

    def exchange(self, opening: Opening) -> Any:
        """Make the call and wait for what it returns."""
        user = self._gate.pause()
        try:
            self._exchange(opening, user)
        finally:
            self._gate.resume(user)
        return opening.result()

    def _exchange(self, opening: Opening, user: bool) -> None:
        out = opening.out
        self._router.out[out.stream] = out
        try:
            self._link.send(opening.invoke)
            for part in opening.pieces:
                size = len(part)
                self._waiter.wait(lambda s=size: out.done or out.credit >= s, interruptible=user)  # type: ignore[misc]
                if out.done:
                    return
                out.credit -= size
                self._link.send([CHUNK, out.stream, part])
            if opening.pieces:
                self._link.send([END, out.stream, {}])
            self._waiter.wait(lambda: out.done, interruptible=user)
        finally:
            del self._router.out[out.stream]
            if not out.done:
                self._link.send([CANCEL, out.stream, "the caller ended"])

    async def call_async(self, target: str, data: Any, timeout: float | None) -> Any:
        """From a loop of the handler's own: a thread waits, the loop goes on."""
        return await asyncio.to_thread(self.call, target, data, timeout)


class AsyncCalls:
    """For async handlers, whose loop reads the connection."""

    def __init__(self, link: Link, router: Router, loop: asyncio.AbstractEventLoop) -> None:
        self._link = link
        self._router = router
        self._loop = loop
        self._thread = threading.get_ident()
        self._streams = itertools.count(1, 2)

    def call(self, target: str, data: Any, timeout: float | None) -> Any:
        if threading.get_ident() == self._thread:
            raise RuntimeError("faas.call would stop this async handler's loop: use `await faas.call.aio(...)`")
        opening = Opening(next(self._streams), target, data, timeout)
        asyncio.run_coroutine_threadsafe(self._exchange(opening), self._loop).result()
        return opening.result()

    async def call_async(self, target: str, data: Any, timeout: float | None) -> Any:
        return await self.exchange(Opening(next(self._streams), target, data, timeout))

    def open(self, target: str, data: Any, method: str, query: str) -> Opening:
        """A call to the platform, about to be made."""
        return Opening(next(self._streams), target, data, None, method=method, query=query)

    async def exchange(self, opening: Opening) -> Any:
        """Make the call and wait for what it returns."""
        if asyncio.get_running_loop() is self._loop:
            await self._exchange(opening)
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._exchange(opening), self._loop))
        return opening.result()

    async def _exchange(self, opening: Opening) -> None:
        out = opening.out
        changed = asyncio.Event()
        out.wake = changed.set
        self._router.out[out.stream] = out
        try:
            self._link.send(opening.invoke)
            for part in opening.pieces:
                while not out.done and out.credit < len(part):
                    changed.clear()
                    await changed.wait()
                if out.done:
                    return
                out.credit -= len(part)
                self._link.send([CHUNK, out.stream, part])
            if opening.pieces:
                self._link.send([END, out.stream, {}])
            while not out.done:
                changed.clear()
                await changed.wait()
        finally:
            del self._router.out[out.stream]
            if not out.done:
                self._link.send([CANCEL, out.stream, "the caller ended"])
