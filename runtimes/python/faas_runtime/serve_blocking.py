"""Serving a plain handler: one call at a time in the main thread, or several in threads. No asyncio, no detours.

With one call at a time nothing is read from the node while the handler runs, unless the handler itself waits
for the node; CANCEL comes as a signal (gate.py). With threads the main thread always reads.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
import signal
import threading
from collections import deque
from collections.abc import Iterator
from time import perf_counter, sleep
from typing import Any

from faas._context import Step, calling

from faas import Cancelled, Context
from faas import call as faas_call
from faas_runtime import function as loaded
from faas_runtime.function import Serving, run_info
from faas_runtime.gate import Gate
from faas_runtime.outcalls import BlockingCalls
from faas_runtime.protocol import CHUNK, CHUNK_MAX, END, HEAD, PONG, LinkClosed, Message
from faas_runtime.replies import BadReply, Reply, label_stream, piece, to_reply
from faas_runtime.steps import BlockingSteps
from faas_runtime.streams import Call, Router
from faas_runtime.waiter import Waiter


class _Ping:
    """A PING that needs user code for its answer."""

    def __init__(self, token: int) -> None:
        self.token = token


class _Drain:
    """All calls are answered, and the node wants no more."""


class BlockingServer:
    """See the module's docstring. `threads` is 0 for the main thread alone."""

    def __init__(self, serving: Serving, gate: Gate, cancel_signal: int) -> None:
        self.link = serving.link
        self.page = serving.page
        self.output = serving.output
        self.function = serving.function
        self.gate = gate
        self.threads = serving.function.concurrency if serving.function.mode == "threads" else 0
        self.router = Router(self.link, deliver=self._deliver, cancel=self._cancelled, ping=self._ping)
        self.waiter = Waiter(self.link, self.router, gate, nudged=self.threads > 0)
        self.calls = BlockingCalls(self.link, self.router, self.waiter, gate)
        self._inbox: deque[Call] = deque()
        self._pings: deque[int] = deque()
        self._work: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signal = cancel_signal
        self._sick: LinkClosed | None = None
        """Why the instance is to end when its calls have ended."""

    # -- life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the start hooks and make ready for calls. Raises what a hook raises."""
        faas_call.backend = self.calls
        Step.backend = BlockingSteps(self.calls)
        for hook in loaded.start_hooks():
            self._settle_value(hook())
        if self.threads:
            for number in range(self.threads):
                threading.Thread(target=self._work_on, name=f"call-{number}", daemon=True).start()
        else:
            signal.signal(self._signal, self.gate.on_signal)

    def run(self, early: list[Message]) -> None:
        """Serve until DRAIN, then run the stop hooks. `early`: frames that have come already. Raises LinkClosed."""
        for message in early:
            self.router.dispatch(message)
        while self.serve_one():
            pass
        for hook in loaded.stop_hooks():
            try:
                self._settle_value(hook())
            except BaseException as error:
                loaded.log_hook_error(self.output, error)
        for pause in self.output.finish(""):
            sleep(pause)

    def serve_one(self) -> bool:
        """Wait for one call or PING and see to it; False after DRAIN. Raises LinkClosed."""
        item = self.waiter.wait(self._next)
        if isinstance(item, Call):
            self._work.put(item) if self.threads else self._serve(item)
        elif isinstance(item, _Ping):
            self._healthy(item.token)
        else:
            return False
        return True

    def _next(self) -> Call | _Ping | _Drain | None:
        if self._sick is not None and not self.router.calls:
            raise self._sick
        if self._inbox:
            return self._inbox.popleft()
        if self._pings:
            return _Ping(self._pings.popleft())
        if self.router.draining and not self.router.calls:
            return _Drain()
        return None

    def _deliver(self, call: Call) -> None:
        self._inbox.append(call)

    def _cancelled(self, call: Call) -> None:
        """CANCEL over the data connection: read here only while the handler waits for the node, or in threads."""
        if not self.threads and call.context is not None:
            self.gate.cancel()

    def _ping(self, token: int) -> None:
        if callable(self.function.healthz):
            self._pings.append(token)  # user code: not from the middle of a wait
        else:
            self.link.send([PONG, token])

    def _healthy(self, token: int) -> None:
        assert self.function.healthz is not None
        try:
            self._settle_value(self.function.healthz())
        except Exception as error:
            # Calls in flight may end; as there is no PONG, the node soon sends no others.
            self._sick = LinkClosed(f"healthz failed: {type(error).__name__}: {error}")
            return
        self.link.send([PONG, token])

    def _settle_value(self, value: Any) -> Any:
        """The value itself, or what an awaitable comes to, on a loop that lives as long as we do."""
        if not inspect.isawaitable(value):
            return value
        if self._loop is None:
            self._loop = asyncio.new_event_loop()

        async def settle() -> Any:
            return await value

        return self._loop.run_until_complete(settle())

    # -- one call --------------------------------------------------------------------------------------

    def _work_on(self) -> None:
        while True:
            self._serve(self._work.get())

    def _serve(self, call: Call) -> None:
        """Run one call and answer it. In the main thread the gate is open only while user code runs."""
        alone = not self.threads
        call_id = call.head[0]
        context = self.function.begin(call)
        if alone:
            self.output.lone = call_id
            self.page.begin_call(call_id)
            self.gate.begin(call.stream)
        try:
            try:
                final = contextvars.copy_context().run(self._run, call, context)
            finally:
                self.gate.pause()
        except BaseException as error:
            final = self.function.failure(call, error, self.gate.cancelled if alone else call.cancelled)
        for pause in self.output.finish(call_id, raw=len(self.router.calls) == 1):
            sleep(pause)
        if alone:
            self.output.lone = ""
            self.gate.end()
        del self.router.calls[call.stream]
        self.link.send(final)
        if alone:
            self.page.end_call()  # last: what it wrote before its end without us is still its own
        if self.threads and (self.router.draining or self._sick is not None):
            self.waiter.nudge()

    def _run(self, call: Call, context: Context) -> Message:
        """Handler and reply; returns the call's last frame."""
        calling.set(context)
        values = self.function.positional(call, context)
        began = perf_counter()
        self.gate.resume(not self.threads)
        result = self.function.target(*values)
        if type(result) is not dict and inspect.isawaitable(result):
            result = self._settle_value(result) if not self.threads else asyncio.run(_wait_for(result))
        self.gate.pause()
        reply = to_reply(result)
        final = loaded.whole(call, reply, began)
        return final if final is not None else self._stream(call, reply, began)

    def _stream(self, call: Call, reply: Reply, began: float) -> Message:
        """Send HEAD and all chunks; returns the END."""
        if reply.source is None:
            self.link.send([HEAD, call.stream, reply.status, reply.headers])
            self._send_pieces(call, reply.body)
            return [END, call.stream, run_info(began)]
        if not hasattr(reply.source, "__next__"):
            raise BadReply("a plain handler returned an async generator", "Make the handler async def.")
        try:
            first = self._advance(reply.source)
            data = b"" if first is None else piece(first)
            self.link.send([HEAD, call.stream, reply.status, label_stream(reply, first)])
            while first is not None:
                self._send_pieces(call, data)
                first = self._advance(reply.source)
                data = b"" if first is None else piece(first)
        finally:
            close = getattr(reply.source, "close", None)
            if close is not None:
                close()
        return [END, call.stream, run_info(began)]

    def _advance(self, source: Iterator[Any]) -> Any:
        """The next piece that is not None; None at the end."""
        self.gate.resume(not self.threads)
        try:
            for item in source:
                if item is not None:
                    return item
            return None
        finally:
            self.gate.pause()

    def _send_pieces(self, call: Call, data: bytes) -> None:
        """CHUNKs as far as the credit goes, waiting for more. Raises Cancelled."""
        for part in loaded.pieces(data, CHUNK_MAX):
            size = len(part)
            if call.credit < size:
                alone = not self.threads
                self.waiter.wait(lambda s=size: call.credit >= s or call.cancelled, interruptible=alone)  # type: ignore[misc]
            if call.cancelled:
                raise Cancelled("the call was cancelled while its reply was sent")
            call.credit -= size
            self.link.send([CHUNK, call.stream, part])


async def _wait_for(value: Any) -> Any:
    return await value
