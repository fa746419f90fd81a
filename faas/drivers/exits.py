"""How the docker driver learns that containers ended: one event stream for all of them, not a request each.

```
 engine --events (label faas.node)--> thread --call_soon_threadsafe--> Exits: instance -> future --> wait()
                stream lost: connect again, list what runs, end the rest as "gone"
```
The state of an entry is set before its waiter wakes; entries live from `expect` to `forget`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from faas.drivers.api import Exit
from faas.drivers.container import LABEL_INSTANCE, LABEL_NODE, container_name
from faas.drivers.engine import Client, Engine
from faas.errors import FaasError, NotFound

log = logging.getLogger(__name__)

_RETRY_FIRST_S = 0.1
_RETRY_MOST_S = 5.0
_CONNECT_S = 10.0
# A subscription begins a moment after its headers; what fell in between is asked for again.
_OVERLAP_S = 2.0
GONE = "gone: the engine was restarted or the container was removed by hand"


class _Entry:
    __slots__ = ("ended", "ending", "started")

    def __init__(self, ended: asyncio.Future[Exit]) -> None:
        self.ended = ended
        self.started = False
        self.ending = False
        """We are killing it ourselves: a SIGKILL is no mystery."""


class Exits:
    """Async context manager: the stream runs while it is open.

    Args:
        on_reconnect: called on the loop after the stream was lost and found again, which is what a restarted
            engine looks like.
    """

    def __init__(self, engine: Engine, node: str, on_reconnect: Callable[[], None]) -> None:
        self._engine = engine
        self._node = node
        self._on_reconnect = on_reconnect
        self._entries: dict[str, _Entry] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = threading.Event()
        self._stream: Any = None
        self._connected = False
        self._told = False
        """The present outage is in the log."""

    async def __aenter__(self) -> Exits:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._follow, name="docker-events", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        self._close_stream()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for instance in list(self._entries):
            self.forget(instance)
        await asyncio.to_thread(self._thread.join, _CONNECT_S)

    def expect(self, instance: str) -> None:
        """Keep an eye on `instance`; call it before the container is started."""
        if instance not in self._entries:
            self._entries[instance] = _Entry(asyncio.get_running_loop().create_future())

    def started(self, instance: str) -> None:
        """From now on, an engine that does not list it has lost it."""
        if entry := self._entries.get(instance):
            entry.started = True

    def ending(self, instance: str) -> None:
        """We are about to kill it."""
        if entry := self._entries.get(instance):
            entry.ending = True

    def forget(self, instance: str) -> None:
        """It was removed; whoever still waits is told."""
        if entry := self._entries.pop(instance, None):
            _set(entry.ended, Exit(signal=signal.SIGKILL, detail="destroyed"))

    async def wait(self, instance: str) -> Exit:
        """Return when `instance` has ended; at once for one that is not there. Cancelling is safe.

        Raises:
            Unavailable: an instance of another run, and the engine does not say whether it is there.
        """
        entry = self._entries.get(instance)
        if entry is None:
            # Not started by this run of the node: ask once, then watch it like any other.
            entry = self._entries[instance] = _Entry(asyncio.get_running_loop().create_future())
            entry.started = True
            self._spawn(self._adopt(instance, entry))
        return await asyncio.shield(entry.ended)

    async def _adopt(self, instance: str, entry: _Entry) -> None:
        try:
            state = await self._state(instance)
        except FaasError as error:
            self._entries.pop(instance, None)
            if not entry.ended.done():
                entry.ended.set_exception(error)
                entry.ended.exception()  # looked at, even if everyone has stopped waiting
            return
        if state is None or not state.get("Running"):
            _set(entry.ended, exit_from(state, entry.ending))
            self._entries.pop(instance, None)

    # -- on the loop -------------------------------------------------------------------------------------

    def _seen(self, event: dict[str, Any]) -> None:
        attributes = (event.get("Actor") or {}).get("Attributes") or {}
        entry = self._entries.get(attributes.get(LABEL_INSTANCE, ""))
        if entry is None or entry.ended.done():
            return
        code = int(attributes.get("exitCode") or 0)
        if code == 128 + signal.SIGKILL and not entry.ending:
            # The one case where the exit code is not the story: was it memory?
            self._spawn(self._conclude(attributes[LABEL_INSTANCE], entry))
        else:
            _set(entry.ended, exit_from({"ExitCode": code}, entry.ending))

    async def _conclude(self, instance: str, entry: _Entry) -> None:
        try:
            state = await self._state(instance)
        except FaasError:
            state = {"ExitCode": 128 + signal.SIGKILL}
        exited = exit_from(state, entry.ending)
        if not exited.oom and not await self._engine.listens():
            exited = Exit(signal=exited.signal, detail="the engine is stopping and ended its container", lost=True)
        _set(entry.ended, exited)

    def _streaming(self) -> None:
        """The stream is up. If it is not the first one, what happened meanwhile has to be looked up."""
        if self._connected:
            log.warning("docker: event stream was lost and is back; instances that ended meanwhile are let go")
            self._on_reconnect()
            self._spawn(self._reconcile())
        self._connected = True

    async def _reconcile(self) -> None:
        try:
            await self._end_what_is_gone()
        except FaasError:
            self._close_stream()  # try the whole thing again: a waiter left behind would wait for ever
            raise

    async def _end_what_is_gone(self) -> None:
        known = [(name, entry) for name, entry in self._entries.items() if entry.started]
        filters = {"label": f"{LABEL_NODE}={self._node}"}
        running = await self._engine.call(lambda client: client.containers(filters=filters))
        alive = {(row.get("Labels") or {}).get(LABEL_INSTANCE) for row in running}
        for instance, entry in known:
            if instance not in alive and not entry.ended.done():
                exited = exit_from(await self._state(instance), entry.ending)
                _set(entry.ended, msgspec.structs.replace(exited, detail=exited.detail or GONE, lost=not exited.oom))

    async def _state(self, instance: str) -> dict[str, Any] | None:
        try:
            seen = await self._engine.call(lambda client: client.inspect_container(container_name(instance)))
        except NotFound:
            return None
        return dict(seen["State"])

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="docker-exits")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("docker: could not learn how an instance ended: %s", error)

    # -- in the thread -----------------------------------------------------------------------------------

    def _follow(self) -> None:
        since = time.time()
        delay = _RETRY_FIRST_S
        while not self._stop.is_set():
            client: Client = None
            try:
                client = self._engine.connect(_CONNECT_S)
                self._stream = client.events(since=int(since - _OVERLAP_S), filters=self._filters(), decode=True)
                if self._stop.is_set():  # asked to end while connecting: nobody had a stream to close
                    self._close_stream()
                self._tell(self._streaming)
                self._told, delay = False, _RETRY_FIRST_S
                for event in self._stream:
                    since = max(since, float(event.get("time", 0)))
                    self._tell(self._seen, event)
            except Exception as error:  # the stream must outlive whatever the engine does
                log.debug("docker: event stream: %s", error)
                self._say_lost(error)
            else:
                self._say_lost("its event stream ended")
            finally:
                self._stream = None
                if client is not None:
                    client.close()
            self._stop.wait(delay)
            delay = min(delay * 2, _RETRY_MOST_S)

    def _say_lost(self, why: object) -> None:
        """Once an outage."""
        if not self._told and not self._stop.is_set():
            log.warning("docker: the engine is away: what runs goes on, starts wait until it is back (%s)", why)
        self._told = True

    def _filters(self) -> dict[str, Any]:
        return {"type": "container", "event": "die", "label": f"{LABEL_NODE}={self._node}"}

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(function, *arguments)

    def _close_stream(self) -> None:
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(Exception):  # it may be closing from the other side
                stream.close()


def _set(future: asyncio.Future[Exit], value: Exit) -> None:
    if not future.done():
        future.set_result(value)


def exit_from(state: dict[str, Any] | None, ending: bool) -> Exit:
    """The engine's state as a cause. OOMKilled is also set when only a child was hit: believed for a SIGKILL."""
    if state is None:
        return Exit(detail=GONE, lost=True)
    code = int(state.get("ExitCode") or 0)
    detail = str(state.get("Error") or "")
    if not 128 < code < 128 + signal.NSIG:
        return Exit(code=code, detail=detail)
    number = code - 128
    oom = number == signal.SIGKILL and not ending and bool(state.get("OOMKilled"))
    if number == signal.SIGKILL and ending:
        detail = detail or "destroyed"
    return Exit(signal=number, oom=oom, detail=detail)
