"""Serving an async handler: every call is a task on one loop, which also reads the connection."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

from faas._context import Step, calling

from faas import call as faas_call
from faas_runtime import function as loaded
from faas_runtime.function import Serving, run_info
from faas_runtime.outcalls import AsyncCalls
from faas_runtime.protocol import CHUNK, CHUNK_MAX, END, HEAD, PONG, LinkClosed, Message
from faas_runtime.replies import Reply, label_stream, piece, to_reply
from faas_runtime.steps import AsyncSteps
from faas_runtime.streams import Call, Router

_LOOK_S = 5.0


class AsyncServer:
    """See the module's docstring."""

    def __init__(self, serving: Serving) -> None:
        self.link = serving.link
        self.page = serving.page
        self.output = serving.output
        self.function = serving.function
        self.router = Router(self.link, deliver=self._deliver, cancel=self._cancelled, ping=self._ping)
        self.ready = False
        self._alone = serving.function.concurrency == 1
        self._ended: asyncio.Future[None] | None = None
        self._sick: LinkClosed | None = None
        """Why the instance is to end when its calls have ended."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def serve(self, early: list[Message]) -> None:
        """Start hooks, READY, calls until DRAIN, stop hooks. `early`: frames that have come already.

        Raises LinkClosed, and what a start hook raises; after READY only the former.
        """
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        calls = AsyncCalls(self.link, self.router, self._loop)
        faas_call.backend, Step.backend = calls, AsyncSteps(calls)
        for hook in loaded.start_hooks():
            await _settle(hook())
        self.link.send(self.function.ready())
        self.ready = True
        for message in early:
            self.router.dispatch(message)
        self._end_if_drained()
        self._loop.add_reader(self.link.fd, self._readable)
        self._look()
        await self._ended
        self._loop.remove_reader(self.link.fd)
        for hook in loaded.stop_hooks():
            try:
                await _settle(hook())
            except BaseException as error:
                loaded.log_hook_error(self.output, error)
        for pause in self.output.finish(""):
            await asyncio.sleep(pause)

    # -- frames ----------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            for message in self.link.receive(socket.MSG_DONTWAIT):
                self.router.dispatch(message)
            self._end_if_drained()
        except LinkClosed as error:
            self._fail(error)

    def _look(self) -> None:
        """A descriptor that the handler closed never becomes readable: look at it now and then."""
        assert self._loop is not None
        try:
            os.fstat(self.link.fd)
            self.link.sock.getpeername()
        except OSError as error:
            self._fail(LinkClosed(f"the connection to the node was closed in here: {error}"))
        self._loop.call_later(_LOOK_S, self._look)

    def _fail(self, error: LinkClosed) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)

    def _end_if_drained(self) -> None:
        if self.router.draining and not self.router.calls and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _deliver(self, call: Call) -> None:
        self._spawn(self._answer(call))

    def _spawn(self, work: Any) -> None:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _cancelled(self, call: Call) -> None:
        if call.task is not None:
            call.task.cancel()
            call.task = None  # once: a handler that cleans up is not disturbed again

    def _ping(self, token: int) -> None:
        if callable(self.function.healthz):
            self._spawn(self._healthy(token))
        else:
            self.link.send([PONG, token])

    async def _healthy(self, token: int) -> None:
        assert self.function.healthz is not None
        try:
            await _settle(self.function.healthz())
            self.link.send([PONG, token])
        except Exception as error:
            # Calls in flight may end; as there is no PONG, the node soon sends no others.
            self._sick = LinkClosed(f"healthz failed: {type(error).__name__}: {error}")
            self._end_if_sick()

    def _end_if_sick(self) -> None:
        if self._sick is not None and not self.router.calls:
            self._fail(self._sick)

    # -- one call --------------------------------------------------------------------------------------

    async def _answer(self, call: Call) -> None:
        call_id = call.head[0]
        if self._alone:
            self.output.lone = call_id
            self.page.begin_call(call_id)
        try:
            final = await self._run(call)
        except BaseException as error:
            final = self.function.failure(call, error, call.cancelled)
        call.task = None
        try:
            for pause in self.output.finish(call_id, raw=len(self.router.calls) == 1):
                await asyncio.sleep(pause)
            if self._alone:
                self.output.lone = ""
            del self.router.calls[call.stream]
            self.link.send(final)
            if self._alone:
                self.page.end_call()
            self._end_if_drained()
            self._end_if_sick()
        except LinkClosed as error:
            self._fail(error)

    async def _run(self, call: Call) -> Message:
        """Handler and reply; returns the call's last frame."""
        context = self.function.begin(call)
        calling.set(context)
        values = self.function.positional(call, context)
        if call.cancelled:
            raise asyncio.CancelledError("the call was cancelled before it began")
        call.task = asyncio.current_task()
        began = time.perf_counter()
        result = await _settle(self.function.target(*values))
        reply = to_reply(result)
        final = loaded.whole(call, reply, began)
        return final if final is not None else await self._stream(call, reply, began)

    async def _stream(self, call: Call, reply: Reply, began: float) -> Message:
        """Send HEAD and all chunks; returns the END."""
        if reply.source is None:
            self.link.send([HEAD, call.stream, reply.status, reply.headers])
            await self._send_pieces(call, reply.body)
            return [END, call.stream, run_info(began)]
        source = _as_async(reply.source)
        started = False
        try:
            async for item in source:
                if item is None:
                    continue
                data = piece(item)
                if not started:
                    self.link.send([HEAD, call.stream, reply.status, label_stream(reply, item)])
                    started = True
                await self._send_pieces(call, data)
            if not started:
                self.link.send([HEAD, call.stream, reply.status, reply.headers])
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
        return [END, call.stream, run_info(began)]

    async def _send_pieces(self, call: Call, data: bytes) -> None:
        """CHUNKs as far as the credit goes, waiting for more."""
        for part in loaded.pieces(data, CHUNK_MAX):
            if call.credit < len(part):
                more = asyncio.Event()
                call.wake = more.set
                while call.credit < len(part):
                    more.clear()
                    await more.wait()
                call.wake = None
            call.credit -= len(part)
            self.link.send([CHUNK, call.stream, part])


async def _settle(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _plain(source: Any) -> AsyncIterator[Any]:
    """A plain generator in an async handler; other calls get their turn between its pieces."""
    try:
        for item in source:
            yield item
            await asyncio.sleep(0)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()


def _as_async(source: Any) -> Any:
    return source if hasattr(source, "__aiter__") else _plain(source)
