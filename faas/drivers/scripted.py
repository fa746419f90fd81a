"""The inside of a fake instance: a supervisor and a child in this very process that follow a script.

For tests only, like `fake.py`: production code must not import it. It speaks the real protocol over the real
socket, so what it plays is what a node meets.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from faas.drivers.api import Exit
from faas.drivers.script import Answer, Call, Crash, Die, Fail, Script
from faas.wire import messages as m
from faas.wire.codec import Decoder, encode
from faas.wire.limits import CHUNK_MAX, INLINE_MAX, WINDOW

_READ = 256 * 1024


class Child:
    """The data connection: takes INIT and calls."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._script = life.script
        self._writer: asyncio.StreamWriter | None = None
        self._bodies: dict[int, tuple[list[Any], bytearray]] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._credit: dict[int, int] = {}
        self._credited = asyncio.Event()
        self._answers: dict[int, asyncio.Future[m.Message]] = {}
        self._streams = itertools.count(1, 2)
        self._draining = False

    async def run(self) -> None:
        """Until the connection ends, or a Crash or Die is raised."""
        reader, self._writer = await connect(self._life.folder)
        try:
            self.send(m.hello(self._script.protocol, "data", {"runtime": "fake", "pid": 2}))
            async for message in frames(reader):
                await self._take(message)
                self._life.raise_scripted()
        finally:
            for task in list(self._calls.values()):
                task.cancel()
            await asyncio.gather(*self._calls.values(), return_exceptions=True)
            self._writer.close()

    def send(self, message: m.Message) -> None:
        """Write a frame; to a closed connection, nothing."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    def drop(self) -> None:
        """Close the connection as a dying process does: at once, unsent data lost."""
        if self._writer is not None:
            self._writer.transport.abort()

    def cancel(self, stream: int) -> None:
        """CANCEL, whichever way it came."""
        if not self._script.deaf and (task := self._calls.get(stream)) is not None:
            task.cancel()

    async def invoke(self, target: str, body: bytes, timeout_ms: int) -> m.Message:
        """Open a call from inside; the first frame of its answer."""
        stream = next(self._streams)
        answer: asyncio.Future[m.Message] = asyncio.get_running_loop().create_future()
        self._answers[stream] = answer
        head = m.invoke_head(f"fake-{stream}", "call", "POST", target, "", [], timeout_ms, {})
        self.send(m.invoke(stream, head, body, True))
        try:
            return await answer
        finally:
            del self._answers[stream]

    async def _take(self, message: m.Message) -> None:
        match message:
            case [m.INIT, dict(spec), *_]:
                await self._init(spec)
            case [m.INVOKE, int(stream), list(head), bytes(body), bool(last), *_]:
                self._bodies[stream] = (head, bytearray(body))
                if last:
                    self._begin(stream)
            case [m.CHUNK, int(stream), bytes(data), *_] if stream in self._bodies:
                self._bodies[stream][1].extend(data)
                self.send(m.credit(stream, len(data)))
            case [m.END, int(stream), *_] if stream in self._bodies:
                self._begin(stream)
            case [m.CREDIT, int(stream), int(size), *_]:
                self._credit[stream] = self._credit.get(stream, 0) + size
                self._credited.set()
            case [m.CANCEL, int(stream), *_]:
                self.cancel(stream)
            case [m.PING, token, *_]:
                if not self._script.mute:
                    self.send(m.pong(token))
            case [m.DRAIN, *_]:
                self._draining = True
                self._drained_if_idle()
            case [m.REPLY | m.HEAD | m.ERROR, int(stream), *_] if stream in self._answers:
                self._answers[stream].set_result(message)

    async def _init(self, spec: dict[str, Any]) -> None:
        self._life.driver_inits.append(spec)
        await asyncio.sleep(self._script.init_delay)
        if self._script.crash_on_init is not None:
            raise Crash(self._script.crash_on_init)
        if (error := self._script.init_error) is not None:
            detail = {"kind": "start", "type": "ImportError", "message": error} if isinstance(error, str) else error
            self.send(m.init_failed(detail))
            return
        concurrency = self._script.concurrency or spec.get("concurrency") or 1
        info = {"concurrency": concurrency, "mode": self._script.mode, "handler": "fake:handler"}
        self.send(m.ready({**info, "healthz": False, "import_ms": 0.1}))

    def _begin(self, stream: int) -> None:
        head, body = self._bodies.pop(stream)
        number = self._life.next_call()
        call = Call(self._life.instance, number, *head[:8], bytes(body), self)  # type: ignore[call-arg]
        self._credit[stream] = WINDOW
        task = asyncio.get_running_loop().create_task(self._answer(stream, call), name=f"fake-call-{number}")
        self._calls[stream] = task
        task.add_done_callback(lambda _: self._over(stream))

    async def _answer(self, stream: int, call: Call) -> None:
        began = time.perf_counter()
        try:
            if call.number in self._script.crash_on_calls:
                raise Crash
            if call.number in self._script.hang_on_calls:
                await asyncio.Event().wait()
            answer = await self._script.on_call(call)
            await self._reply(stream, answer, began)
        except asyncio.CancelledError:
            self.send(m.error(stream, {"kind": "cancelled", "type": "Cancelled", "message": "scripted"}))
        except Fail as failure:
            self.send(m.error(stream, failure.detail))
        except (Crash, Die) as end:
            self._life.end_with(end)
        except Exception as error:
            self.send(m.error(stream, {"kind": "raised", "type": type(error).__name__, "message": str(error)}))

    async def _reply(self, stream: int, answer: Answer, began: float) -> None:
        status, headers, body = _whole(answer)
        if isinstance(body, bytes) and len(body) <= INLINE_MAX:
            self.send(m.reply(stream, status, headers, body, _info(began)))
            return
        self.send(m.head(stream, status, headers))
        async for piece in _pieces(body):
            while self._credit[stream] < len(piece):
                self._credited.clear()
                await self._credited.wait()
            self._credit[stream] -= len(piece)
            self.send(m.chunk(stream, piece))
        self.send(m.end(stream, _info(began)))

    def _over(self, stream: int) -> None:
        self._calls.pop(stream, None)
        self._credit.pop(stream, None)
        self._drained_if_idle()

    def _drained_if_idle(self) -> None:
        if self._draining and not self._calls:
            self.send(m.drained())


class Life:
    """One fake instance from start to end: the control connection, and one child after the other."""

    def __init__(
        self,
        instance: str,
        folder: Path,
        script: Script,
        next_call: Callable[[], int],
        driver_inits: list[dict[str, Any]],
    ) -> None:
        self.instance = instance
        self.folder = folder
        self.script = script
        self.next_call = next_call
        self.driver_inits = driver_inits
        self._child: Child | None = None
        self._end: Crash | Die | None = None
        self._control: asyncio.StreamWriter | None = None

    async def run(self) -> Exit:
        """Until the node closes the control connection, or the script ends it."""
        if self.script.silent:
            await asyncio.Event().wait()
        await asyncio.sleep(self.script.connect_delay)
        try:
            reader, self._control = await connect(self.folder)
        except OSError as error:
            return Exit(code=1, detail=f"cannot connect: {error}")
        listening = asyncio.create_task(self._listen(reader), name=f"fake-control-{self.instance}")
        living = asyncio.create_task(self._live(), name=f"fake-child-{self.instance}")
        try:
            self._say(m.hello(self.script.protocol, "control", {"runtime": "fake", "pid": 1}))
            await asyncio.wait({listening, living}, return_when=asyncio.FIRST_COMPLETED)
            return living.result() if living.done() else Exit(code=0, detail="control connection closed")
        finally:
            for task in (listening, living):
                task.cancel()
            await asyncio.gather(listening, living, return_exceptions=True)
            self._control.transport.abort()

    def end_with(self, end: Crash | Die) -> None:
        """The child is to end this way, now."""
        self._end = end
        if self._child is not None:
            self._child.drop()

    def raise_scripted(self) -> None:
        """Raises the end that was set, if one was."""
        if self._end is not None:
            raise self._end

    async def _live(self) -> Exit:
        while True:
            self._end, cause = None, Exit(code=0)
            self._child = Child(self)
            try:
                await self._child.run()
                self.raise_scripted()
            except Crash as crash:
                cause = crash.cause
            except Die as death:
                return death.exit
            except OSError as error:
                return Exit(code=1, detail=f"cannot connect: {error}")
            self._say(m.exited({"code": cause.code, "signal": cause.signal, "oom": cause.oom, "detail": cause.detail}))
            if not self.script.respawn:
                await asyncio.Event().wait()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        async for message in frames(reader):
            match message:
                case [m.PING, token, *_]:
                    self._say(m.pong(token))
                case [m.CANCEL, int(stream), *_] if self._child is not None:
                    self._child.cancel(stream)
                case [m.KILL, *_]:
                    self.end_with(Crash(Exit(signal=9, detail="killed")))

    def _say(self, message: m.Message) -> None:
        if self._control is not None and not self._control.is_closing():
            self._control.write(encode(message))


async def connect(folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams to `folder/sock`, however long its path is. Raises OSError."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(f"/proc/self/fd/{handle}/sock")
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(handle)
    return await asyncio.open_unix_connection(sock=sock)


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[m.Message]:
    """Messages until the other side closes or the connection breaks."""
    decoder = Decoder()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_READ):
            for message in decoder.feed(data):
                yield message


def _whole(answer: Answer) -> tuple[int, m.Pairs, bytes | AsyncIterator[bytes]]:
    match answer:
        case (int(status), bytes(body)):
            return status, [], body
        case (int(status), list(headers), bytes(body)):
            return status, headers, body
        case bytes():
            return 200, [], answer
        case _:
            return 200, [], answer


async def _pieces(body: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        for at in range(0, len(body), CHUNK_MAX):
            yield body[at : at + CHUNK_MAX]
        return
    async for piece in body:
        yield piece


def _info(began: float) -> dict[str, int]:
    return {"run_us": round((time.perf_counter() - began) * 1e6)}
