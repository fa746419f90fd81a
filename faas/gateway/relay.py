"""Calls of a worker process: found in its own copy of the registry, run by the node at the other end of a socket.

Gateway -> RelayInvoker.run -> INVOKE --- DATA/relay/sock ---> Relay (faas/control/relay.py) -> pools
                     Reply  <- Attempt <- REPLY | HEAD CHUNK ... END | ERROR

The node counts, logs and times calls: here is nothing but the way there. A worker that has lost its node and cannot
reach it again within LOST_S ends, and the node, if there is one, starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from faas.control.catalog import Catalog
from faas.errors import NoRoom, ProtocolError, Unavailable
from faas.model import Function, Version
from faas.names import Target
from faas.node.attempt import Attempt
from faas.node.call import Call, Reply
from faas.node.connection import Connection
from faas.node.failures import from_whole
from faas.store.tasks import end
from faas.wire import limits
from faas.wire import messages as m

log = structlog.get_logger(__name__)

OPEN_MAX = 16_000
"""Calls on the way to the node at once; below what the node takes."""
CONNECT_S = 5.0
"""Seconds the node may take to answer HELLO."""
LOST_S = 10.0
"""Seconds without a node after which the worker gives up."""
PATIENCE_S = 1.0
"""Seconds a call waits for the node to be there again, or for a change of the registry the node has already seen."""
_BACKOFF_S = (0.02, 0.5)


class RelayInvoker:
    """An async context manager around the connection; implements `Runs`.

    Args:
        directory: the node's relay directory.
        lost: set when the node is gone for good.
    """

    def __init__(self, catalog: Catalog, directory: Path, lost: asyncio.Event) -> None:
        self._catalog = catalog
        self._directory = directory
        self._lost = lost
        self._connection: Connection | None = None
        self._there = asyncio.Event()
        self._gone = asyncio.Event()
        self._attempts: dict[int, _Relayed] = {}
        self._next_stream = 1
        self._behind = False
        self._position = (0, 0)
        """Where the node's copy of the registry was when it last told us."""
        self._level = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._unsubscribe = catalog.subscribe(lambda _: self._compare())

    async def __aenter__(self) -> Self:
        """Connect. Raises Unavailable when there is no node."""
        await self._connect()
        self._keeper = asyncio.create_task(self._keep(), name="relay")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._keeper is not None
        self._unsubscribe()
        await end(self._keeper)
        if self._connection is not None:
            self._connection.close("the worker stops")

    # -- calls ---------------------------------------------------------------------------------------------

    def resolve_now(self, target: Target) -> tuple[Function, Version] | None:
        """What a call to `target` runs; None while the node knows of a change that is not here yet."""
        if self._behind:
            return None
        return self._catalog.resolve(target, random.random())  # noqa: S311 (a draw, not a secret)

    async def resolve(self, target: Target) -> tuple[Function, Version]:
        """Like `resolve_now`, after catching up with the node. Raises NotFound with close names."""
        if self._behind:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._level.wait()
            except TimeoutError:
                # Redis answers the node and not us: what we know is the best there is.
                self._behind = False
                log.warning("this worker lags behind the node's registry; calls use what it knew")
        return await self._catalog.locate(target, random.random())  # noqa: S311

    async def run(self, function: Function, version: Version, call: Call) -> Reply:
        """One attempt, by the node. Raises what the node raised; Unavailable when it cannot be asked."""
        connection = self._connection or await self._reconnected()
        if len(self._attempts) >= OPEN_MAX:
            raise NoRoom(f"{OPEN_MAX} calls of this process are running", hint="Retry later.", retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        stream = self._next_stream
        self._next_stream = stream + 2
        attempt = _Relayed(self, stream, connection.send, loop.time(), loop.create_future())
        attempt.call = call
        self._attempts[stream] = attempt
        call.begun = True  # as far as we know, until the node says that it has not
        try:
            attempt.begin(_addressed(function, version, call), 0)
            reply = await attempt.future
        except ProtocolError:
            self._attempts.pop(stream, None)  # it was not sent: larger than a frame
            call.begun = False
            raise
        except asyncio.CancelledError:
            self.cancel(attempt, "the caller went away")
            raise
        if reply.stream is not None:
            reply.abandon = partial(self.cancel, attempt)
        return reply

    async def _reconnected(self) -> Connection:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._there.wait()
        if self._connection is None:
            raise Unavailable(
                "the node does not answer this HTTP process", hint="Repeat the call: it has not begun.", retry_after_s=1
            )
        return self._connection

    # -- what attempts report: `Runner` --------------------------------------------------------------------

    @property
    def info(self) -> dict[str, Any]:
        """Part of `Runner`."""
        return {}

    def ended(self, attempt: Attempt) -> None:
        """Part of `Runner`."""
        self._attempts.pop(attempt.stream, None)

    def cancel(self, attempt: Attempt, reason: str) -> None:
        """Nobody waits for it any more: the node ends it, and answers all the same."""
        if attempt.ended:
            return
        assert isinstance(attempt, _Relayed)
        attempt.stop_sending()
        if self._connection is not None:
            self._connection.send(m.cancel(attempt.stream, reason))

    def overdue(self, attempt: Attempt) -> None:
        """Part of `Runner`: deadlines are the node's."""

    # -- the connection ------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        welcome: asyncio.Future[Connection] = loop.create_future()

        def first(connection: Connection, message: m.Message) -> None:
            if message[:2] != [m.WELCOME, limits.PROTOCOL]:
                connection.close("not a node of this version")
            elif not welcome.done():
                connection.on_message, connection.on_closed = self._on_frame, self._on_closed
                welcome.set_result(connection)

        def never(reason: str) -> None:
            if not welcome.done():
                welcome.set_exception(Unavailable(f"the node ended the connection: {reason}"))

        connection = Connection(first)
        connection.on_closed = never
        try:
            async with asyncio.timeout(CONNECT_S):
                with reachable(self._directory) as path:
                    await loop.create_unix_connection(lambda: connection, f"{path}/sock")
                connection.send(m.hello(limits.PROTOCOL, "worker", {"pid": os.getpid()}))
                self._connection = await welcome
        except (OSError, TimeoutError) as cause:
            welcome.cancel()
            connection.close("no answer")
            raise Unavailable(f"no node answers in {self._directory}: {cause or 'it is silent'}") from cause
        if self._connection.closed:
            self._connection = None
            raise Unavailable("the node ended the connection")
        self._gone.clear()
        self._there.set()

    async def _keep(self) -> None:
        """Connect again whenever the connection ends; give up after LOST_S."""
        while True:
            await self._gone.wait()
            log.warning("the relay to the node broke; connecting again")
            delay, most = _BACKOFF_S
            try:
                async with asyncio.timeout(LOST_S):
                    while self._connection is None:
                        with contextlib.suppress(Unavailable):
                            await self._connect()
                            break
                        await asyncio.sleep(delay)
                        delay = min(delay * 2, most)
            except TimeoutError:
                self._lost.set()
                return

    def _on_closed(self, reason: str) -> None:
        self._connection = None
        self._there.clear()
        self._gone.set()
        for attempt in list(self._attempts.values()):
            attempt.fail(
                Unavailable(
                    f"the connection to the node broke while the call ran: {reason}",
                    hint="It may have run: repeat it only if running twice does no harm.",
                )
            )

    def _on_frame(self, message: m.Message) -> None:
        kind = message[0]
        if kind == m.INIT:
            self._on_news(message[1])
            return
        attempt = self._attempts.get(message[1])
        if attempt is not None:
            attempt.on_frame(message)
        elif kind != m.CREDIT:  # credit may cross the end of its stream
            raise ProtocolError(f"{m.NAMES[kind]} for a call that is not open")

    def _on_news(self, news: dict[str, Any]) -> None:
        self._position = _order(news["position"])
        self._compare()

    def _compare(self) -> None:
        self._behind = _order(self._catalog.snapshot.position) < self._position
        if self._behind:
            self._level.clear()
        else:
            self._level.set()


class _Relayed(Attempt):
    """An attempt that the node runs for us: its frames carry what only the node knows."""

    __slots__ = ("call",)

    call: Call

    def on_frame(self, message: m.Message) -> None:
        """Take a frame of this stream."""
        kind = message[0]
        if kind == m.ERROR:
            if self.reply is None:
                self.call.begun = bool(message[2].get("begun"))
            self.fail(from_whole(message[2]))
            return
        super().on_frame(message)
        if kind == m.REPLY:
            self._tell(message[5])
        elif kind == m.HEAD:
            self._tell(message[4])

    def _tell(self, info: dict[str, Any]) -> None:
        reply = self.reply
        assert reply is not None
        reply.queue_ms, reply.start_ms = info["queue_ms"], info["start_ms"]
        reply.cold, reply.version = info["cold"], info["version"]

    def stop_sending(self) -> None:
        """The rest of its body is not wanted."""
        self._body = b""


def _addressed(function: Function, version: Version, call: Call) -> Call:
    """`call` as it goes over the relay: its path names the version too."""
    return Call(
        call.id,
        kind=call.kind,
        method=call.method,
        path=f"{function.app}/{function.name}@{version.number}{call.path}",
        query=call.query,
        headers=call.headers,
        body=call.body,
        extra=call.extra,
    )


@contextlib.contextmanager
def reachable(directory: Path) -> Iterator[str]:
    """A short path to `directory`: addresses of sockets end at 107 bytes."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _order(position: str) -> tuple[int, int]:
    """Stream ids in the order Redis gives them out."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence or 0)
