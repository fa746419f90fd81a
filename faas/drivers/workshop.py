"""A workshop: one program in a place like an instance's, which may write to one directory and nothing else.

For work on packages that runs their code (building them) or depends on the runtime's own Python (byte code). It is
not an instance: no supervisor, no socket, nobody waits to give it calls, and it ends by itself.

    ROOM on the node  <-->  /faas/instance inside, writable, the working directory; output and exit code land there
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec
from docker.types import HostConfig, LogConfig, Mount, Ulimit

from faas.drivers import sandbox
from faas.drivers.container import INSIDE, LABEL, LABEL_NODE, Owner, limits
from faas.drivers.engine import Client, Engine
from faas.errors import FaasError, Unavailable
from faas.ids import new_id

MEMORY = 1024 * 1024 * 1024
TMPFS = 256 * 1024 * 1024
CPU = 2.0
PIDS = 512
TIMED_OUT, KILLED = 124, 137
PYTHON = "{python}"
_CODE = "exit-code"
_LOOK_S = 0.1
_LATE_S = 30.0
"""Seconds the engine may take on top of the job's own time."""
# The shell keeps output and exit code in the room: the engine keeps no log, and forgets the container by itself.
_SCRIPT = 'cd "$1" && output=$2 && shift 2 && "$@" >"$output" 2>&1; echo $? >exit-code'


@runtime_checkable
class Workshop(Protocol):
    """A driver that has one."""

    async def work(
        self,
        runtime: str,
        argv: Sequence[str],
        room: Path,
        *,
        env: Mapping[str, str],
        network: bool,
        shows: Sequence[Path],
        output: str,
        timeout_s: float,
    ) -> int:
        """Run `argv` in `room`. Returns its exit code, 124 when it took too long. Cancelled, it is ended.

        Args:
            argv: `{python}` in it becomes the runtime's interpreter.
            room: an existing directory; whatever is in it then belongs to the workshop's user.
            network: as an instance on `egress` has it; else none.
            shows: files and folders of the node that are seen inside at the same place, read-only.
            output: name of the file in `room` that gets what it prints.

        Raises:
            NotFound: no such runtime here. Unavailable: the engine does not answer.
        """
        ...


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `work`, with the interpreter filled in."""

    argv: tuple[str, ...]
    room: Path
    env: dict[str, str]
    shows: tuple[Path, ...]
    output: str
    timeout_s: float


def job_of(
    argv: Sequence[str],
    python: str,
    room: Path,
    env: Mapping[str, str],
    shows: Sequence[Path],
    output: str,
    timeout_s: float,
) -> Job:
    """Fill in the interpreter."""
    words = tuple(python if word == PYTHON else word for word in argv)
    return Job(argv=words, room=room, env=dict(env), shows=tuple(shows), output=output, timeout_s=timeout_s)


# -- containers --------------------------------------------------------------------------------------------


async def in_container(engine: Engine, job: Job, owner: Owner, *, image: str, network: str, uid: int) -> int:
    """Run the job in a container of `image` and wait for its end. See `Workshop.work`."""
    await asyncio.to_thread(_hand_over, job.room, uid)
    name = f"faas-{new_id('w')}"
    began = time.monotonic()
    starting = asyncio.ensure_future(engine.call(lambda client: _start(client, name, job, owner, image, network)))
    try:
        await asyncio.shield(starting)
        async with asyncio.timeout(job.timeout_s + _LATE_S):
            while await engine.call(lambda client: _runs(client, name)):  # noqa: ASYNC110 (the engine tells nobody)
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        return TIMED_OUT
    finally:
        await asyncio.shield(_remove(engine, name, starting))
    code = await asyncio.to_thread(_exit_code, job.room)
    return TIMED_OUT if code == KILLED and time.monotonic() - began >= job.timeout_s else code


def _start(client: Client, name: str, job: Job, owner: Owner, image: str, network: str) -> None:
    binds = [Mount(INSIDE, str(job.room), type="bind")]
    binds += [Mount(str(path), str(path), type="bind", read_only=True) for path in job.shows]
    seconds = str(max(1, int(job.timeout_s)))
    client.create_container(
        image=image,
        name=name,
        hostname="faas",
        user=owner.user,
        environment=job.env,
        entrypoint=["timeout", "-k", "5", seconds, "/bin/sh", "-c", _SCRIPT, "sh", INSIDE, job.output],
        command=list(job.argv),
        labels={LABEL: "1", LABEL_NODE: owner.node},
        host_config=HostConfig(
            version=client.api_version,
            mounts=binds,
            network_mode=network,
            auto_remove=True,  # also when this node is killed meanwhile
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            init=True,
            pids_limit=PIDS,
            tmpfs={"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={TMPFS}"},  # noqa: S108 - inside a container
            ulimits=[Ulimit(name="core", soft=0, hard=0)],
            log_config=LogConfig(type=LogConfig.types.NONE),
            userns_mode="host" if owner.host_users else None,
            **limits(MEMORY, CPU),
        ),
    )
    client.start(name)


def _runs(client: Client, name: str) -> bool:
    found: list[Any] = client.containers(filters={"name": f"^/{name}$", "status": "running"})
    return bool(found)


async def _remove(engine: Engine, name: str, starting: asyncio.Future[None]) -> None:
    """Gone when this returns, if the engine answers. It may be doing so already, or not have begun to start it."""
    await asyncio.wait({starting})
    for _ in range(40):
        with contextlib.suppress(FaasError):
            await engine.call(lambda client: client.remove_container(name, force=True, v=True))
        with contextlib.suppress(FaasError):
            if not await engine.call(lambda client: client.containers(all=True, filters={"name": f"^/{name}$"})):
                return
        await asyncio.sleep(_LOOK_S)


# -- processes ---------------------------------------------------------------------------------------------


async def as_process(job: Job, *, network: bool, sandboxed: bool, uid: int) -> int:
    """Run the job in a sandbox, or plainly where instances are plain too. See `Workshop.work`."""
    await asyncio.to_thread(_hand_over, job.room, uid)
    place = INSIDE if sandboxed else str(job.room)
    inner = ["/bin/sh", "-c", _SCRIPT, "sh", place, job.output, *job.argv]
    if sandboxed:
        inner = sandbox.workshop(job.room, job.shows, network, TMPFS, inner)
    env = {"PATH": sandbox.PATH, "LANG": "C.UTF-8", **job.env}
    try:
        process = await asyncio.create_subprocess_exec(
            *sandbox.limited(MEMORY, inner if sandboxed else sandbox.plain(inner)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=env,
            cwd="/",
            start_new_session=True,
        )
    except (OSError, ValueError) as cause:
        raise Unavailable(f"cannot start work on packages: {cause}") from cause
    try:
        await asyncio.wait_for(process.wait(), job.timeout_s)
    except TimeoutError:
        return TIMED_OUT
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return await asyncio.to_thread(_exit_code, job.room)


# -- the room ----------------------------------------------------------------------------------------------


def _hand_over(room: Path, uid: int) -> None:
    """Everything in the room becomes the workshop user's; links are not followed."""
    (room / _CODE).unlink(missing_ok=True)
    if os.geteuid() != 0 or uid == 0:
        return
    os.chown(room, uid, uid)
    for folder, folders, files in os.walk(room):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), uid, uid, follow_symlinks=False)


def _exit_code(room: Path) -> int:
    """What the shell noted; 137 when it was killed before it could, or left something else there."""
    try:
        fd = os.open(room / _CODE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return KILLED
    with open(fd, "rb") as stream:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return KILLED
        text = stream.read(8).strip()
    return int(text) if text.isdigit() else KILLED
