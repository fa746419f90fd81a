"""The node's end of the relay: calls that came in at its HTTP processes, run here, where the pools are.

worker: RelayInvoker ---- unix socket DATA/relay/sock, 0600 ----> Relay --> Invoker.run

    HELLO "worker" >   < WELCOME        < INIT {position}: the registry is here now; again at each change
    INVOKE ... CANCEL >                 < REPLY | HEAD CHUNK ... END | ERROR

The frames are the runtime protocol's. Here both sides trust each other: the path in a head is APP/NAME@NUMBER and the
sub-path, HEAD has `info` as a fifth element, ERROR carries a whole error of our tree.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from faas.control.catalog import Catalog
from faas.errors import FaasError, NotFound, ProtocolError
from faas.model import Function, Version
from faas.names import Target, parse_key
from faas.node.answering import Answering, Held
from faas.node.call import Call, Reply
from faas.node.connection import WELCOME, Connection, close_listener, listen
from faas.node.failures import whole
from faas.store.registry import Snapshot
from faas.store.tasks import end
from faas.wire import limits
from faas.wire import messages as m

log = structlog.get_logger(__name__)

OPEN_MAX = 16_384
"""Calls one worker may have open: it refuses more itself."""
HELD_MAX = 256 * 1024 * 1024
"""Bytes of large request bodies of all workers in the node's memory at once."""


Run = Callable[[Function, Version, Call], Awaitable[Reply]]
_Run = Callable[[str, str, Call], Awaitable[Reply]]


class Relay:
    """An async context manager around the listener.

    Args:
        directory: made here with mode 0700, removed at the end; `sock` in it is ours.
        run: runs a call here, such as `Invoker.run`.
        body_max: bytes of the largest request body.
    """

    def __init__(self, directory: Path, catalog: Catalog, run: Run, body_max: int) -> None:
        self._directory = directory
        self._catalog = catalog
        self._run = run
        self._body_max = body_max
        self._held = Held(max(HELD_MAX, body_max))
        self._workers: set[_Worker] = set()
        self._listener: asyncio.Server | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._catching_up: asyncio.Task[Snapshot] | None = None

    @property
    def connected(self) -> int:
        """Workers that are there now."""
        return len(self._workers)

    async def __aenter__(self) -> Self:
        shutil.rmtree(self._directory, ignore_errors=True)  # of a killed node
        self._directory.mkdir(mode=0o700)
        self._listener = await listen(self._directory, os.geteuid(), self._accept)
        self._unsubscribe = self._catalog.subscribe(self._announce)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unsubscribe()
        close_listener(self._listener)
        for worker in list(self._workers):
            worker.connection.close("the node stops")
        if self._catching_up is not None:
            await end(self._catching_up)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _accept(self, connection: Connection, message: m.Message) -> None:
        if message[:3] != [m.HELLO, limits.PROTOCOL, "worker"] or not isinstance(message[3], dict):
            connection.close("not a worker of this version")
            return
        worker = _Worker(connection, self.run, f"worker {message[3].get('pid')}", self._body_max)
        answering = Answering(worker, self._held)
        self._workers.add(worker)

        def closed(reason: str) -> None:
            self._workers.discard(worker)
            answering.forget()
            log.debug("a worker's relay ended", worker=worker.name, reason=reason)

        connection.on_message, connection.on_closed = answering.on_frame, closed
        connection.send(WELCOME)
        connection.send(_news(self._catalog.snapshot))

    def _announce(self, snapshot: Snapshot) -> None:
        """Whoever hears of a change from this node and then asks a worker must meet it there too."""
        for worker in self._workers:
            worker.send(_news(snapshot))

    async def run(self, version: str, path: str, call: Call) -> Reply:
        """One call to APP/NAME@NUMBER. Raises FaasError."""
        target = _target(version)
        try:
            found = await self._find(target)
        except NotFound:
            # The worker saw a function that is not known here: another node's push, a moment ago.
            await self._catch_up()
            found = await self._find(target)
        call.path = path
        return await self._run(*found, call)

    async def _find(self, target: Target) -> tuple[Function, Version]:
        return self._catalog.resolve(target, 0.0) or await self._catalog.locate(target, 0.0)

    async def _catch_up(self) -> None:
        """Read the registry, once for all who ask meanwhile."""
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = asyncio.create_task(self._catalog.load(), name="relay catches up")
        await asyncio.wait({self._catching_up})
        if (error := self._catching_up.exception()) is not None:
            raise error


class _Worker:
    """A worker as a `Peer`."""

    open_max = OPEN_MAX

    def __init__(self, connection: Connection, run: _Run, name: str, body_max: int) -> None:
        self.connection = connection
        self.send = connection.send
        self.name = name
        self.body_max = body_max
        self._run = run
        self._begun: FaasError | None = None
        """What the last call that failed after its INVOKE failed with."""

    def check(self, head: list[Any]) -> None:
        if not isinstance(head[3], str) or "@" not in head[3]:
            raise ProtocolError("a call without a version")

    async def run(self, head: list[Any], body: bytes) -> Reply:
        id, kind, method, where, query, headers, _timeout_ms, extra = head[:8]
        version, path = _split(where)
        call = Call(id, kind=kind, method=method, query=query, headers=headers, body=body, extra=extra)
        try:
            return await self._run(version, path, call)
        except FaasError as error:
            self._begun = error if call.begun else None
            raise

    def head(self, stream: int, reply: Reply) -> m.Message:
        return [m.HEAD, stream, reply.status, reply.headers, self.info(reply)]

    def info(self, reply: Reply) -> dict[str, Any]:
        return {
            "run_us": int(reply.run_ms * 1000),
            "queue_ms": reply.queue_ms,
            "start_ms": reply.start_ms,
            "cold": reply.cold,
            "version": reply.version,
        }

    def detail(self, error: FaasError) -> dict[str, Any]:
        # Asked in the very step in which `run` raised it. Whoever counts attempts at the other end needs to know.
        return {**whole(error), "begun": error is self._begun}


def _split(where: str) -> tuple[str, str]:
    """`shop/hello@3/a/b` -> (`shop/hello@3`, `/a/b`)."""
    name, _, rest = where.partition("@")
    number, _, path = rest.partition("/")
    return f"{name}@{number}", "/" + path


@lru_cache(maxsize=8192)
def _target(version: str) -> Target:
    key, _, number = version.partition("@")
    if not number.isdigit():
        raise ProtocolError(f'"{version[:80]}" is not a version')
    return Target(parse_key(key), int(number), "")


def _news(snapshot: Snapshot) -> m.Message:
    return m.init({"position": snapshot.position})
