"""Instances as processes of this machine: sandboxed by bubblewrap where that works, else the node's equals."""

from __future__ import annotations

import asyncio
import compileall
import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from faas.drivers import killing, procfs, sandbox, vendor, workshop
from faas.drivers.api import Capabilities, Exit, Found, Inside, InstanceSpec, Usage
from faas.drivers.container import DEPS, INSIDE, UID
from faas.drivers.lives import Lives
from faas.drivers.procfs import Stat
from faas.drivers.records import Records
from faas.drivers.runtimes import Runtime, manifests
from faas.errors import Conflict, NotFound, Unavailable

log = logging.getLogger(__name__)

_COMPLAINT_MAX = 2_000
_READ = 4_096


class _Running:
    """A started process, and the exit it will have."""

    __slots__ = ("ended", "process", "stat", "watcher")

    def __init__(self, process: asyncio.subprocess.Process, stat: Stat | None) -> None:
        self.process = process
        self.stat = stat
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.watcher: asyncio.Task[None] | None = None


class ProcessDriver:
    """See `faas.drivers.api.Driver`. It runs the one Python version the node itself runs on.

    Args:
        node_id: noted with every process.
        data_dir: keeps the notes and a copy of each runtime.
        sandboxed: None: bubblewrap when it works. True: or refuse to start. False: never.
        runtimes: folder of runtimes; None: the one that comes with the package.
    """

    name = "process"

    def __init__(
        self, node_id: str, data_dir: Path, *, sandboxed: bool | None = None, runtimes: Path | None = None
    ) -> None:
        self._source = runtimes
        self._node = node_id
        self._data_dir = data_dir
        self._wanted = sandboxed
        self._why_not = "not asked for"
        self._records = Records(data_dir / "processes")
        self._lives = Lives(self._start, self._destroy)
        self._running: dict[str, _Running] = {}
        self._runtimes: dict[str, tuple[Runtime, Path]] = {}
        self._sandboxed = False
        self.uid = os.geteuid()
        self.capabilities = _capabilities(False)

    async def __aenter__(self) -> Self:
        """Raises Unavailable when the sandbox asked for does not work or the runtimes cannot be prepared."""
        if self._wanted is not False:
            self._why_not = await asyncio.to_thread(sandbox.probe)
            self._sandboxed = not self._why_not
        if self._wanted and not self._sandboxed:
            raise Unavailable(self._why_not, hint="Install bubblewrap and allow user namespaces.")
        self.uid = UID if self._sandboxed and os.geteuid() == 0 else os.geteuid()
        self.capabilities = _capabilities(self._sandboxed)
        try:
            self._records.open()
            self._runtimes = await asyncio.to_thread(self._prepare)
        except OSError as cause:
            raise Unavailable(f"cannot prepare runtimes in {self._data_dir}: {cause}") from cause
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(self._lives.destroy(one) for one in list(self._running)), return_exceptions=True)
        await self._lives.finish()

    def _prepare(self) -> dict[str, tuple[Runtime, Path]]:
        """A copy of every runtime this interpreter can run, with its private packages. Made once a content."""
        ready: dict[str, tuple[Runtime, Path]] = {}
        for manifest in manifests(self._source):
            version = vendor.own_version()
            if manifest.language != "python" or version not in manifest.bases:
                continue
            name = manifest.language + version
            runtime = Runtime(name=name, version=version, base=manifest.bases[version], manifest=manifest)
            ready[name] = (runtime, _staged(runtime, self._data_dir / "runtimes"))
        return ready

    async def runtimes(self) -> list[str]:
        """The runtime of the node's own Python version."""
        return sorted(self._runtimes)

    # -- start -------------------------------------------------------------------------------------------

    async def start(self, spec: InstanceSpec) -> Inside:
        """Start the supervisor. Cancelled midway, it is ended again.

        Raises:
            NotFound: another language or Python version than the node's.
            Conflict: an instance of this id is there already.
            Unavailable: the system will not start a process.
        """
        if spec.runtime not in self._runtimes:
            raise self._no_runtime(spec.runtime)
        if spec.id in self._running:
            raise Conflict(f"instance {spec.id} is there already")
        await self._lives.start(spec)
        return Inside(dir=self._seen_as(spec), uid=self.uid)

    def _no_runtime(self, runtime: str) -> NotFound:
        return NotFound(
            f'the process driver cannot run "{runtime[:80]}"; here: {", ".join(self._runtimes)}',
            hint="Use the docker driver, or start the node with that version of Python.",
        )

    async def _start(self, spec: InstanceSpec) -> None:
        try:
            if spec.deps is not None:
                self._show_deps(spec.dir / DEPS, spec.deps)
            process = await asyncio.create_subprocess_exec(
                *self._command(spec),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=sandbox.environment(spec.id, self._seen_as(spec)),
                cwd="/",
                start_new_session=True,
            )
        except (OSError, ValueError) as cause:
            raise Unavailable(f"cannot start instance {spec.id}: {cause}") from cause
        running = self._running[spec.id] = _Running(process, procfs.stat(process.pid))
        running.watcher = self._lives.spawn(self._watch(running), f"watch-{spec.id}")
        if running.stat is not None:
            self._records.write(spec.id, self._node, process.pid, running.stat.start)

    def _command(self, spec: InstanceSpec) -> list[str]:
        runtime, folder = self._runtimes[spec.runtime]
        shown = sandbox.RUNTIME_INSIDE if self._sandboxed else str(folder)
        words = {"python": sandbox.interpreter(), "dir": shown}
        command = [word.format(**words) for word in runtime.manifest.command]
        if self._sandboxed:
            return sandbox.limited(spec.memory, sandbox.bubblewrap(spec, folder, command))
        return sandbox.limited(spec.memory, sandbox.plain(command))

    def _seen_as(self, spec: InstanceSpec) -> str:
        return INSIDE if self._sandboxed else str(spec.dir)

    def _show_deps(self, place: Path, deps: Path) -> None:
        """Without a sandbox a link has to do; the node has made an empty folder to mount on."""
        if self._sandboxed:
            place.mkdir(exist_ok=True)
        elif not place.is_symlink():
            with contextlib.suppress(FileNotFoundError):
                place.rmdir()
            place.symlink_to(deps, target_is_directory=True)

    async def _watch(self, running: _Running) -> None:
        """Keep the end of what it says on stderr, and turn its end into an Exit."""
        complaint = b""
        stream = running.process.stderr
        assert stream is not None
        while data := await stream.read(_READ):
            complaint = (complaint + data)[-_COMPLAINT_MAX:]
        code = await running.process.wait()
        if not running.ended.done():
            running.ended.set_result(_exit_from(code, complaint.decode(errors="replace").strip()))

    # -- the rest of a life ------------------------------------------------------------------------------

    async def wait(self, instance: str) -> Exit:
        """Return when the process has ended; at once when this driver did not start it."""
        running = self._running.get(instance)
        if running is None:
            return Exit(detail="gone: not a process of this node")
        return await asyncio.shield(running.ended)

    async def resize(self, instance: str, *, memory: int, cpu: float) -> None:
        """Always raises Unavailable: see `capabilities.resize`."""
        raise Unavailable(f"the process driver cannot change the limits of instance {instance}")

    async def destroy(self, instance: str) -> None:
        """Kill the process and everything it started.

        Raises:
            Unavailable: something of it cannot be killed (the kernel holds it).
        """
        await self._lives.destroy(instance)

    async def _destroy(self, instance: str) -> None:
        running = self._running.get(instance)
        if not await asyncio.to_thread(self._end, instance, running.stat if running else None):
            raise Unavailable(f"instance {instance} has processes that do not die")
        if running is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(running.ended), killing.GONE_S)
            self._running.pop(instance, None)
        self._records.remove(instance)

    def _end(self, instance: str, root: Stat | None) -> bool:
        if root is None and (record := self._records.get(instance)) is not None:
            seen = procfs.stat(record.pid)
            root = seen if seen is not None and seen.start == record.start else None
        if root is not None:
            killing.kill_tree(root, has_namespace=self._sandboxed)
        return killing.sweep(instance)

    async def usage(self, instance: str) -> Usage | None:
        """Summed over its processes. Memory they share after a fork is counted in each."""
        running = self._running.get(instance)
        if running is None or running.stat is None:
            return None
        return await asyncio.to_thread(_usage, running.stat)

    async def found(self) -> list[Found]:
        """What this data directory's nodes started and is still there."""
        return await asyncio.to_thread(self._found)

    def _found(self) -> list[Found]:
        carriers = procfs.with_variable("FAAS_INSTANCE")
        found = []
        for record in self._records.all():
            seen = procfs.stat(record.pid)
            alive = [seen] if seen and seen.alive and seen.start == record.start else []
            alive += carriers.get(record.instance, [])
            if alive:
                age = max(procfs.age_s(one) for one in alive)
                found.append(Found(id=record.instance, node=record.node, age_s=age))
            elif record.instance not in self._running:
                self._records.remove(record.instance)
        return found

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
        """See `faas.drivers.workshop.Workshop`."""
        if runtime not in self._runtimes:
            raise self._no_runtime(runtime)
        job = workshop.job_of(argv, sandbox.interpreter(), room, env, shows, output, timeout_s)
        return await workshop.as_process(job, network=network, sandboxed=self._sandboxed, uid=self.uid)

    async def check(self) -> list[tuple[str, bool, str]]:
        """Findings for `faas doctor`."""
        names = ", ".join(await self.runtimes())
        findings = [("process runtimes", bool(names), names or f"none for Python {vendor.own_version()}")]
        if self._sandboxed:
            return [*findings, ("isolation", True, "bubblewrap: own files, processes and, without egress, network")]
        fix = "functions run as the node's own user and see its files; fix: install bubblewrap, or use docker"
        return [*findings, ("isolation", False, f"{self._why_not}; {fix}")]


def _capabilities(sandboxed: bool) -> Capabilities:
    return Capabilities(
        isolation="sandbox" if sandboxed else "none",
        mounts=False,
        resize=False,
        networks=("egress", "none") if sandboxed else ("egress",),
        trusted_files=sandboxed,
    )


def _staged(runtime: Runtime, folder: Path) -> Path:
    """The copy of `runtime` in `folder`; an unfinished one is never seen under its name."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as room:
        fresh = Path(room) / "runtime"
        vendor.stage(runtime, fresh, lambda line: log.info("%s: %s", runtime.name, line))
        place = folder / f"{runtime.name}-{vendor.digest(fresh)[:16]}"
        if not place.exists():
            # Byte code once, here: a supervisor may write none, and would compile itself at every start.
            compileall.compile_dir(fresh, quiet=2, ddir=str(place))
            fresh.rename(place)
    return place


def _exit_from(code: int, complaint: str) -> Exit:
    """asyncio reports a signal as a negative code, bubblewrap as 128 and more."""
    number = -code if code < 0 else code - 128
    if 0 < number < signal.NSIG:
        return Exit(signal=number, detail=complaint)
    return Exit(code=code, detail=complaint)


def _usage(root: Stat) -> Usage | None:
    if not procfs.is_same(root.pid, root.start):
        return None
    processes = [seen for seen in (procfs.stat(root.pid), *procfs.descendants(root.pid)) if seen]
    memory = sum(procfs.private_memory(one.pid) for one in processes)
    return Usage(memory=memory, cpu_s=sum(one.cpu_s for one in processes))
