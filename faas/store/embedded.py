"""The Redis that a node brings along: `DATA/redis/`, a unix socket, an append-only file synced at each write.

    DATA/redis/redis.sock      0600, in a directory 0700
    DATA/redis/server.json     who runs: pid, start time, and the short path if the socket's own is too long
    DATA/redis/lock            held while a node owns this directory
    DATA/redis/server.log      what the server says; server.log.1: in the run before

It ends with the node, whatever the node dies of, and is started again when it dies alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import msgspec
import structlog

from faas.errors import Conflict, Unavailable
from faas.store import server
from faas.store.connection import connect
from faas.store.tasks import end

_SOCKET_PATH_MAX = 107
_POLL_S = (0.004, 0.1)
_BACKOFF_S = (0.1, 5.0)
_STEADY_S = 30.0

_log = structlog.get_logger(__name__)


class _State(msgspec.Struct, frozen=True):
    pid: int
    started: str
    link: str = ""


class EmbeddedRedis:
    """An async context manager: inside it a server answers at `url`, and is replaced when it dies.

    Args:
        data_dir: the node's; `redis/` in it is the server's.
        binary: the server; None: the one that comes with the package.
        load_timeout_s: how long a start may take, including reading the append-only file.

    Enter it in the main thread: the server dies with the thread that started it.
    """

    def __init__(self, data_dir: Path, binary: Path | None = None, load_timeout_s: float = 600.0) -> None:
        self._dir = data_dir / "redis"
        self._binary = binary.absolute() if binary else None
        self._load_timeout_s = load_timeout_s
        self._link = ""
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._undo = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """`unix://PATH`, usable by every process of this user on this machine while it runs."""
        return f"unix://{quote(os.path.join(self._link or self._dir.absolute(), server.SOCKET))}"

    @property
    def pid(self) -> int | None:
        """Process id of the running server; None between two."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and alive else None

    async def __aenter__(self) -> Self:
        """Start and wait until it answers.

        Raises:
            Conflict: another node uses this data directory.
            Unavailable: it cannot start; the message has the end of its log.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("EmbeddedRedis must be entered in the main thread")
        try:
            self._prepare()
            await asyncio.to_thread(self._sweep)
            self._binary = self._binary or server.find_binary()
            await self._start()
        except BaseException:
            self._undo.close()
            raise
        self._keeper = asyncio.create_task(self._keep(), name="embedded-redis")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._keeper is not None:
                await end(self._keeper)
            await self._end()
            self._state_file.unlink(missing_ok=True)
        finally:
            self._undo.close()

    @property
    def _state_file(self) -> Path:
        return self._dir / "server.json"

    def _prepare(self) -> None:
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._dir.chmod(0o700)
            self._undo.enter_context(_locked(self._dir / "lock"))
            if len(os.fsencode(self._dir.absolute() / server.SOCKET)) > _SOCKET_PATH_MAX:
                self._link = self._undo.enter_context(_short_link(self._dir.absolute()))
        except OSError as cause:
            raise Unavailable(
                f"cannot use {self._dir}: {cause.strerror or cause}",
                hint="Check space and permissions of the data directory.",
            ) from cause

    def _sweep(self) -> None:
        """End what a killed node may have left. Blocks."""
        try:
            state = msgspec.json.decode(self._state_file.read_bytes(), type=_State)
        except (OSError, msgspec.MsgspecError):
            return
        if server.end_leftover(state.pid, state.started):
            _log.warning("embedded Redis: ended the server of a node that was killed", pid=state.pid)
        if state.link:
            _remove_link(state.link)

    async def _start(self) -> None:
        assert self._binary is not None
        self._process = await server.spawn(self._binary, self._dir)
        try:
            state = _State(self._process.pid, server.start_time(self._process.pid), self._link)
            self._state_file.write_bytes(msgspec.json.encode(state))
            await self._ready(self._process)
        except OSError as cause:
            await self._end()
            raise Unavailable(f"cannot write {self._state_file}: {cause.strerror or cause}") from cause
        except BaseException:
            await self._end()
            raise

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        begun, (delay, most) = time.monotonic(), _POLL_S
        told = False
        while time.monotonic() - begun < self._load_timeout_s:
            if process.returncode is not None:
                break
            try:
                await (await connect(self.url)).aclose()
            except Unavailable:
                if not told and time.monotonic() - begun > 5:
                    told = True
                    _log.info("embedded Redis: still reading its data; the node starts after that")
                await asyncio.sleep(delay)
                delay = min(delay * 2, most)
            else:
                return
        why = "does not answer" if process.returncode is None else f"ended with code {process.returncode}"
        raise Unavailable(
            f"the embedded Redis {why}: {server.log_tail(self._dir) or 'it left no log'}",
            hint=f"Look at {self._dir / 'server.log'}; its data is in {self._dir}.",
        )

    async def _keep(self) -> None:
        """Start it again whenever it ends."""
        delay, most = _BACKOFF_S
        while True:
            begun = time.monotonic()
            process = self._process
            code = await process.wait() if process is not None else None
            if time.monotonic() - begun > _STEADY_S:
                delay = _BACKOFF_S[0]
            _log.error(
                "embedded Redis ended; starting it again. Calls to known functions go on, async ones wait",
                code=code,
                tail=server.log_tail(self._dir, 2),
            )
            await asyncio.sleep(delay)
            delay = min(delay * 2, most)
            try:
                await self._start()
            except Unavailable as error:
                _log.error("embedded Redis: cannot start it; trying again", error=error.message)
            else:
                _log.info("embedded Redis: answers again")

    async def _end(self) -> None:
        if self._process is None:
            return
        try:
            await server.stop(self._process)
        except TimeoutError:
            _log.error("embedded Redis does not end; it will die with this process", pid=self._process.pid)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another node uses the data directory {path.parent.parent}",
                hint="Stop it, or start this one with another --data-dir.",
            ) from None
        yield


@contextlib.contextmanager
def _short_link(directory: Path) -> Iterator[str]:
    """A short path to `directory`: a link in a private directory, as socket paths end at 107 bytes."""
    home = tempfile.mkdtemp(prefix="faas-", dir="/tmp" if os.access("/tmp", os.W_OK) else None)  # noqa: S108
    link = os.path.join(home, "r")
    os.symlink(directory, link)
    try:
        yield link
    finally:
        _remove_link(link)


def _remove_link(link: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(link)
        os.rmdir(os.path.dirname(link))
