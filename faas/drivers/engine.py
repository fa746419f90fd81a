"""One local Docker engine, spoken to from threads of its own; its errors become ours here and nowhere else."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
import urllib3.exceptions

from faas.errors import Conflict, FaasError, NotFound, Unavailable

T = TypeVar("T")
Client = Any
"""A `docker.APIClient`; the package has no type information."""

THREADS = 16
TIMEOUT_S = 60.0
"""Longest wait for one answer of the engine."""
OPEN_S = 10.0
"""Longest wait for its first answers: a node that starts should not hang on an engine that does."""

_START_HINT = "Start it (systemctl start docker), or use --driver process."
_TROUBLE = (docker.errors.DockerException, urllib3.exceptions.HTTPError, OSError)
# requests' own exceptions are OSErrors.


class Engine:
    """An async context manager: entering connects, so a missing engine is known at once.

    Args:
        threads: requests to the engine at once; more wait their turn.
        timeout_s: seconds one request may take.
    """

    def __init__(self, *, threads: int = THREADS, timeout_s: float = TIMEOUT_S) -> None:
        self._size = threads
        self._timeout_s = timeout_s
        self._threads: ThreadPoolExecutor | None = None
        self._client: Client = None
        self.socket_path = Path()
        self.rootless = False
        self.remaps_users = False

    async def __aenter__(self) -> Engine:
        """Raises Unavailable when no engine answers on a local socket."""
        self.socket_path = _socket_path()
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="docker")
        try:
            self._client = await self._run(lambda: self.connect(OPEN_S))
            options = await self.call(lambda client: client.info().get("SecurityOptions") or [])
            self._client.timeout = self._timeout_s
        except BaseException:
            self._threads.shutdown(wait=False)
            raise
        names = {str(option).split(",")[0] for option in options}
        self.rootless = "name=rootless" in names
        self.remaps_users = "name=userns" in names
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False)
        if self._client is not None:
            self._client.close()

    def connect(self, timeout_s: float | None = None) -> Client:
        """Another client of the same engine, for streams that own their connection. Blocks."""
        return docker.APIClient(
            base_url=f"unix://{self.socket_path}",
            version="auto",
            timeout=timeout_s or self._timeout_s,
            max_pool_size=self._size,
        )

    async def call(self, work: Callable[[Client], T]) -> T:
        """Run `work(client)` in a thread. Cancelling gives up the wait, not the work.

        Raises:
            NotFound, Conflict: the engine's 404 and 409.
            Unavailable: anything else it says, and silence.
        """
        return await self._run(lambda: work(self._client))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._threads is None:
            raise Unavailable("the docker driver is not started")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, work)
        except _TROUBLE as cause:
            raise self.translated(cause) from cause
        except RuntimeError as cause:  # the pool was shut down under us
            raise Unavailable(f"the docker driver is stopping: {cause}") from cause

    def translated(self, cause: Exception) -> FaasError:
        """The engine's error as one of ours."""
        if isinstance(cause, docker.errors.APIError):
            text = str(cause.explanation or cause)
            if cause.status_code == 404:
                return NotFound(f"the Docker engine says: {text}")
            if cause.status_code == 409:
                return Conflict(f"the Docker engine says: {text}")
            return Unavailable(f"the Docker engine refused: {text}", hint="Run faas doctor.")
        if isinstance(cause, PermissionError) or "Permission denied" in str(cause):
            return Unavailable(
                f"no permission to use the Docker engine at {self.socket_path}",
                hint="Run the node as root or add its user to the group docker.",
            )
        why = _why(cause)
        return Unavailable(f"the Docker engine at {self.socket_path} does not answer: {why}", hint=_START_HINT)

    async def listens(self) -> bool:
        """False for one that is down or going down: it refuses new connections first, then ends its containers."""

        def connect() -> bool:
            try:
                self._peer().close()
            except OSError:
                return False
            return True

        return await asyncio.to_thread(connect)

    def _peer(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.settimeout(5)
            peer.connect(str(self.socket_path))
        except BaseException:
            peer.close()
            raise
        return peer

    def shares_mounts(self) -> bool:
        """True when the engine sees the mounts this process makes: same mount namespace, by its socket's peer."""
        try:
            with self._peer() as peer:
                credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, _, _ = struct.unpack("iII", credentials)
            return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
        except OSError:
            return False


def _why(cause: BaseException) -> str:
    """The system's words where there are any, under two or three layers of wrapping."""
    inner: BaseException | None = cause
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return str(inner.strerror)
        inner = inner.__cause__ or inner.__context__
    return str(cause)


def _socket_path() -> Path:
    """Where the local engine listens. Raises Unavailable for a remote one: sockets cannot be shared with it."""
    host = os.environ.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        raise Unavailable(
            f"DOCKER_HOST={host} is not a local engine: an instance is reached through a unix socket",
            hint="Unset DOCKER_HOST or let it start with unix://; run one node on each machine.",
        )
    if host:
        return Path(host.removeprefix("unix://"))
    default = Path("/var/run/docker.sock")
    own = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")) / "docker.sock"
    return own if own.exists() and not default.exists() else default
