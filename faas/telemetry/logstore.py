"""Logs of functions on this node's disk: written without waiting, read and followed with what is not there yet.

    write -> buffer (bounded) -> a thread, every 100 ms -> DATA/logs/APP/NAME/*.ndjson
          -> followers (bounded)

A full disk costs log lines, never calls: what could not be stored is counted and said in the log itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import structlog

from faas.errors import TooManyRequests
from faas.model import LogLine
from faas.names import FunctionName, check_name
from faas.telemetry.logbuffer import Follower, LogBuffer, prepare
from faas.telemetry.logfiles import LogFiles
from faas.telemetry.logfilter import LogFilter, check_limit, log_filter

_FLUSH_S = 0.1
_FLUSH_BYTES = 256 * 1024
_BUFFER_MAX = 16 * 1024 * 1024
_BUFFER_ONE_MAX = 2 * 1024 * 1024
_SWEEP_S = 3600.0
_FOLLOWERS_MAX = 256
_FOLLOWER_LINES = 1_000
MIB = 1024 * 1024

P = ParamSpec("P")
R = TypeVar("R")
_Named = tuple[FunctionName, LogBuffer]

_log = structlog.get_logger(__name__)


class LogStore:
    """Logs under `root`. An async context manager; one a data directory.

    Args:
        max_bytes: kept per function.
        max_age_s: seconds a line is kept, within a segment.
    """

    def __init__(self, root: Path, max_bytes: int = 10 * MIB, max_age_s: float = 7 * 86400.0) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._files: dict[FunctionName, LogFiles] = {}
        self._buffers: dict[FunctionName, LogBuffer] = {}
        self._followers: dict[FunctionName, list[Follower]] = defaultdict(list)
        self._pending = 0
        self._work = asyncio.Event()
        self._full = asyncio.Event()
        self._disk = asyncio.Lock()
        self._failing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._flusher(), name="logstore-flush"),
            asyncio.create_task(self._sweeper(), name="logstore-sweep"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Store what is buffered and let followers end."""
        self._closed = True
        for followers in self._followers.values():
            for follower in followers:
                follower.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.flush()

    def write(self, function: FunctionName, line: LogLine) -> None:
        """Take a line: some microseconds, no waiting, no error whatever the line contains."""
        line, text = prepare(line)
        for follower in self._followers.get(function, ()):
            follower.push(line)
        buffer = self._buffers.get(function)
        if buffer is None:
            self._directory(function)
            buffer = self._buffers[function] = LogBuffer(_BUFFER_ONE_MAX)
        if self._pending + len(text) > _BUFFER_MAX:
            buffer.drop(1, len(text) + 1)
        else:
            self._pending += buffer.add(line, text)
        self._work.set()
        if self._pending >= _FLUSH_BYTES:
            self._full.set()

    async def read(
        self,
        function: FunctionName,
        *,
        call: str = "",
        since_ms: int = 0,
        limit: int = 1000,
        level: str = "",
        grep: str = "",
    ) -> list[LogLine]:
        """The last `limit` lines that fit, oldest first; arguments as in `log_filter`. Raises Invalid."""
        wanted = log_filter(call, since_ms, level, grep)
        check_limit(limit)
        async with self._disk:
            recent = self._recent(function, wanted)
            return await self._history(function, wanted, limit, recent)

    async def follow(
        self,
        function: FunctionName,
        *,
        call: str = "",
        since_ms: int = 0,
        limit: int = 0,
        level: str = "",
        grep: str = "",
    ) -> AsyncIterator[LogLine]:
        """Up to `limit` past lines, then live ones as they come, none twice, until the store closes.

        Raises:
            Invalid: an argument, see `log_filter`.
            TooManyRequests: too many readers follow logs on this node.
        """
        wanted = log_filter(call, since_ms, level, grep)
        check_limit(limit, 0)
        if sum(map(len, self._followers.values())) >= _FOLLOWERS_MAX:
            raise TooManyRequests(f"{_FOLLOWERS_MAX} readers follow logs on this node already", retry_after_s=10.0)
        follower = Follower(wanted, _FOLLOWER_LINES)
        try:
            async with self._disk:
                # No await between these two: what is buffered now is past, what comes next is live.
                recent = self._recent(function, wanted)
                self._followers[function].append(follower)
                past = await self._history(function, wanted, limit, recent) if limit else []
            if self._closed:
                follower.close()
            for line in past:
                yield line
            while (live := await follower.next()) is not None:
                yield live
        finally:
            self._unfollow(function, follower)

    async def flush(self) -> None:
        """Store what is buffered. Disk errors are logged once, not raised."""
        async with self._disk:
            taken = [(name, buffer) for name, buffer in self._buffers.items() if buffer]
            self._buffers.clear()
            self._pending = 0
            if not taken:
                return
            failed = await _in_thread(self._store, taken)
        for name, buffer in failed:
            self._buffers.setdefault(name, LogBuffer(_BUFFER_ONE_MAX)).drop(*buffer.counts)

    async def remove(self, function: FunctionName) -> None:
        """Delete a function's log. Those who follow it go on."""
        async with self._disk:
            gone = self._buffers.pop(function, None)
            self._pending -= gone.size if gone else 0
            files = self._open(function)
            del self._files[function]
            await _in_thread(files.remove)

    async def sweep(self) -> None:
        """Delete what is too old, of functions that are not called any more too."""
        async with self._disk:
            await _in_thread(self._sweep)

    def _recent(self, function: FunctionName, wanted: LogFilter) -> list[LogLine]:
        buffer = self._buffers.get(function)
        return [line for line in buffer.lines if wanted.accepts(line)] if buffer else []

    async def _history(
        self, function: FunctionName, wanted: LogFilter, limit: int, recent: list[LogLine]
    ) -> list[LogLine]:
        """With the disk lock held, so that nothing moves from the buffer to the disk meanwhile."""
        stored: list[LogLine] = []
        if len(recent) < limit:
            stored = await _in_thread(self._open(function).read, wanted, limit - len(recent))
        return (stored + recent)[-limit:]

    def _directory(self, function: FunctionName) -> Path:
        return self._root / check_name(function.app, "app name") / check_name(function.name)

    def _open(self, function: FunctionName) -> LogFiles:
        files = self._files.get(function)
        if files is None:
            files = self._files[function] = LogFiles(self._directory(function), self._max_bytes)
        return files

    def _unfollow(self, function: FunctionName, follower: Follower) -> None:
        followers = self._followers.get(function, [])
        if follower in followers:
            followers.remove(follower)
        if not followers:
            self._followers.pop(function, None)

    def _store(self, taken: list[_Named]) -> list[_Named]:
        """In a thread, with the disk lock held. Returns what could not be stored."""
        failed: list[_Named] = []
        reason = ""
        for name, buffer in taken:
            try:
                self._open(name).append(buffer.ndjson(int(time.time() * 1000)))
            except OSError as error:
                failed.append((name, buffer))
                reason = error.strerror or str(error)
        self._tell(reason)
        return failed

    def _tell(self, reason: str) -> None:
        if reason and not self._failing:
            _log.error(
                "function logs cannot be stored and are dropped; calls go on. Free some space",
                directory=str(self._root),
                reason=reason,
            )
        if self._failing and not reason:
            _log.info("function logs are stored again")
        self._failing = bool(reason)

    def _sweep(self) -> None:
        now = time.time()
        for directory in self._root.glob("*/*"):
            name = FunctionName(directory.parent.name, directory.name)
            files = self._files.get(name) or LogFiles(directory, self._max_bytes)
            try:
                files.sweep(self._max_age_s, now)
            except OSError as error:
                _log.warning("old logs cannot be deleted", directory=str(directory), reason=error.strerror)

    async def _flusher(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    await self._full.wait()
            self._full.clear()
            try:
                await self.flush()
            except Exception:
                _log.exception("function logs: a flush failed and its lines are lost")

    async def _sweeper(self) -> None:
        while True:
            try:
                await self.sweep()
            except Exception:
                _log.exception("function logs: a sweep failed; old logs stay for an hour")
            await asyncio.sleep(_SWEEP_S)


async def _in_thread(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Like `asyncio.to_thread`, but a cancelled caller waits for the thread, so that a lock stays meaningful."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
