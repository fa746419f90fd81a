"""Keeps the node's HTTP processes going: starts them, starts them again when they end, ends them with the node."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import msgspec
import structlog

from faas.worker import Start

log = structlog.get_logger("faas.workers")

BACKOFF_S = (0.1, 5.0)
STEADY_S = 30.0
"""Seconds after which an end is not taken for one of a series."""
END_S = 5.0
"""Seconds they may take to end once the node has drained."""


class Workers:
    """`start()`, then `stop()` (no new connections), then `await close()`.

    Args:
        count: how many; 0 is fine.
        data_dir: the node's, so that a process list shows whose they are.
    """

    def __init__(self, count: int, data_dir: Path, start: Start) -> None:
        self._count = count
        self._data_dir = data_dir
        self._start = msgspec.json.encode(start)
        self._running: set[asyncio.subprocess.Process] = set()
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Start them, without waiting until they serve. Call in the main thread: they die with it."""
        for number in range(1, self._count + 1):
            self._keepers.append(asyncio.create_task(self._keep(number), name=f"worker {number}"))

    def stop(self) -> None:
        """Have them close their listeners and finish what they have. Idempotent."""
        self._stopping = True
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

    async def close(self) -> None:
        """Return when all have ended: by themselves within END_S, else killed."""
        self.stop()
        if not self._keepers:
            return
        _, late = await asyncio.wait(self._keepers, timeout=END_S)
        if late:
            log.warning("HTTP processes do not end; they are killed", count=len(self._running))
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.wait(late, timeout=END_S)
        for keeper in self._keepers:
            keeper.cancel()

    async def _keep(self, number: int) -> None:
        delay, most = BACKOFF_S
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            code = await self._run()
            if self._stopping:
                return
            if loop.time() - begun > STEADY_S:
                delay = BACKOFF_S[0]
            log.warning(
                "an HTTP process ended, its connections with it; starting another", worker=number, code=code, in_s=delay
            )
            await asyncio.sleep(delay)
            delay = min(delay * 2, most)

    async def _run(self) -> int | str:
        """One life of one process: its exit code, or why it could not be started."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "faas.worker", str(self._data_dir)),
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in a terminal is for the node, which stops them
            )
        except OSError as cause:
            return f"cannot start: {cause.strerror or cause}"
        self._running.add(process)
        try:
            if self._stopping:  # asked for while it was being started
                process.send_signal(signal.SIGTERM)
            assert process.stdin is not None
            with contextlib.suppress(ConnectionError):
                process.stdin.write(self._start)
                process.stdin.write_eof()
            return await process.wait()
        finally:
            self._running.discard(process)
