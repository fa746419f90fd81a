"""Instances as containers of the local Docker engine."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from faas.drivers import cgroups, mounts, workshop
from faas.drivers.api import Capabilities, Exit, Found, Inside, InstanceSpec, Usage
from faas.drivers.container import (
    DEPS,
    INSIDE,
    LABEL,
    LABEL_INSTANCE,
    UID,
    Owner,
    container_name,
    create_arguments,
    data_label,
    found_from,
    limits,
)
from faas.drivers.egress import Egress
from faas.drivers.engine import Client, Engine
from faas.drivers.exits import Exits
from faas.drivers.lives import Lives
from faas.errors import Conflict, FaasError, NotFound, Unavailable

IMAGE_PREFIX = "faas-runtime-"
RUNTIME_LABEL = "faas.runtime"
_RUNTIME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_REMOVE_TRIES = 40
_REMOVE_PAUSE_S = 0.25


class DockerDriver:
    """See `faas.drivers.api.Driver`.

    Args:
        node_id: becomes a label of every container, so that strays can be told apart.
        data_dir: holds every `spec.dir`; made a shared mount where that is possible.
        image_prefix: runtime `python3.11` runs image `PREFIXpython3.11:latest`.
        allow_private_networks: instances on `egress` may reach private networks.
    """

    name = "docker"

    def __init__(
        self,
        node_id: str,
        data_dir: Path,
        *,
        image_prefix: str = IMAGE_PREFIX,
        allow_private_networks: bool = False,
    ) -> None:
        self._data_dir = data_dir
        self._prefix = image_prefix
        self._engine = Engine()
        self._egress = Egress(self._engine, allow_private=allow_private_networks)
        self._exits = Exits(self._engine, node_id, self._reconnected)
        self._owner = Owner(node_id, data_label(data_dir), "", False)
        self._stack = AsyncExitStack()
        self._containers: dict[str, str] = {}
        self._owed: set[str] = set()
        """To be removed when the engine answers again."""
        self._lives = Lives(self._start, self._destroy)
        self.uid = UID
        self.capabilities = Capabilities(
            isolation="container", mounts=False, resize=True, networks=("egress", "none"), trusted_files=True
        )

    async def __aenter__(self) -> Self:
        """Raises Unavailable when the engine does not answer or cannot give the egress network."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._engine)
            self._settle_user()
            self._settle_mounts(stack)
            await self._egress.ensure()
            await stack.enter_async_context(self._exits)
            stack.push_async_callback(self._lives.finish)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _settle_user(self) -> None:
        """Root gives instances a user of nobody's; anyone else's instances are their own user's."""
        if self._engine.rootless:
            # Root inside is the node's user outside, which is who has to own the socket.
            self.uid, user = os.getuid(), "0:0"
        elif os.geteuid() == 0:
            self.uid, user = UID, f"{UID}:{UID}"
        else:
            self.uid, user = os.getuid(), f"{os.getuid()}:{os.getgid()}"
        self._owner = self._owner._replace(user=user, host_users=self._engine.remaps_users)

    def _settle_mounts(self, stack: AsyncExitStack) -> None:
        possible = os.geteuid() == 0 and not self._engine.rootless and self._engine.shares_mounts()
        if possible and mounts.share(self._data_dir):
            stack.callback(mounts.unshare, self._data_dir)
            self.capabilities = Capabilities(
                isolation="container", mounts=True, resize=True, networks=("egress", "none"), trusted_files=True
            )

    async def runtimes(self) -> list[str]:
        """Runtimes whose image is here."""
        return await built_runtimes(self._engine, self._prefix)

    # -- start -------------------------------------------------------------------------------------------

    async def start(self, spec: InstanceSpec) -> Inside:
        """Create and start the container. Cancelled midway, it is removed again.

        Raises:
            NotFound: no image of this runtime.
            Conflict: an instance of this id is there already.
            Unavailable: the engine does not answer or refuses.
        """
        if not _RUNTIME.fullmatch(spec.runtime):
            raise await self._no_runtime(spec.runtime)
        await self._lives.start(spec)
        return Inside(dir=INSIDE, uid=self.uid)

    async def _start(self, spec: InstanceSpec) -> None:
        if spec.deps is not None:
            (spec.dir / DEPS).mkdir(exist_ok=True)
        self._exits.expect(spec.id)
        try:
            try:
                container = await self._engine.call(lambda client: self._create_and_start(client, spec))
            except NotFound as missing:
                if "network" not in missing.message:
                    raise
                await self._egress.ensure()  # somebody pruned it
                container = await self._engine.call(lambda client: self._create_and_start(client, spec))
        except FaasError as error:
            self._exits.forget(spec.id)
            if isinstance(error, NotFound) and "image" in error.message.lower():
                raise await self._no_runtime(spec.runtime) from error
            raise
        self._containers[spec.id] = container
        self._exits.started(spec.id)

    def _create_and_start(self, client: Client, spec: InstanceSpec) -> str:
        arguments = create_arguments(
            spec,
            self._owner,
            image=f"{self._prefix}{spec.runtime}:latest",
            network=self._egress.network if spec.network == "egress" else "none",
            mounts=self.capabilities.mounts,
            api=client.api_version,
        )
        container = str(client.create_container(**arguments)["Id"])
        try:
            client.start(container)
        except BaseException:
            client.remove_container(container, force=True, v=True)
            raise
        return container

    async def _no_runtime(self, runtime: str) -> NotFound:
        known = ", ".join(await self.runtimes()) or "none"
        return NotFound(
            f'no runtime "{runtime[:80]}" on this engine; built here: {known}',
            hint=f"Build it with: faas runtimes build {runtime[:80]}",
        )

    # -- the rest of a life ------------------------------------------------------------------------------

    async def wait(self, instance: str) -> Exit:
        """Return when the container has ended; at once when there is none."""
        return await self._exits.wait(instance)

    async def resize(self, instance: str, *, memory: int, cpu: float) -> None:
        """Change memory (bytes) and cpu (cores); 10 to 15 ms.

        Raises:
            NotFound: no such container.
            Unavailable: the engine refused, for example because more memory is in use than `memory`.
        """
        change = limits(memory, cpu)
        await self._engine.call(lambda client: client.update_container(container_name(instance), **change))

    async def destroy(self, instance: str) -> None:
        """Kill and remove. When it returns the container is gone; cancelling gives up the wait, not the work.

        Raises:
            Unavailable: the engine does not answer, or will not let go of it.
        """
        await self._lives.destroy(instance)

    async def _destroy(self, instance: str) -> None:
        self._exits.ending(instance)
        for attempt in range(_REMOVE_TRIES):
            try:
                await self._engine.call(
                    lambda client: client.remove_container(container_name(instance), force=True, v=True)
                )
            except NotFound:
                break
            except Conflict:  # another removal is on its way: wait for it
                pass
            except Unavailable:
                if not await self._lists(instance):
                    break
                if attempt == _REMOVE_TRIES - 1:
                    raise
            else:
                break
            await asyncio.sleep(_REMOVE_PAUSE_S)
        else:
            raise Unavailable(f"the Docker engine did not remove {container_name(instance)} in time")
        self._containers.pop(instance, None)
        self._exits.forget(instance)

    async def _lists(self, instance: str) -> bool:
        """Raises Unavailable when the engine does not answer at all: then it is removed when it does again."""
        try:
            await self._engine.call(lambda client: client.inspect_container(container_name(instance)))
        except NotFound:
            return False
        except Unavailable:
            self._owed.add(instance)
            raise
        return True

    async def usage(self, instance: str) -> Usage | None:
        """Memory and CPU time, from the cgroup's files where they can be read, else from the engine (slow)."""
        try:
            return await self._engine.call(lambda client: self._usage(client, instance))
        except NotFound:
            return None

    def _usage(self, client: Client, instance: str) -> Usage | None:
        container = self._containers.get(instance)
        if container is None:
            container = str(client.inspect_container(container_name(instance))["Id"])
        if (seen := cgroups.usage(container)) is not None:
            return seen
        return _usage_from(client.stats(container, stream=False))

    async def found(self) -> list[Found]:
        """Every container with our label, whatever its state and whoever's it is."""
        filters = {"label": [f"{LABEL}=1", LABEL_INSTANCE]}
        rows = await self._engine.call(lambda client: client.containers(all=True, filters=filters))
        return [one for row in rows if (one := found_from(row)) is not None]

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
        if runtime not in await self.runtimes():
            raise await self._no_runtime(runtime)
        if network:
            await self._egress.ensure()
        return await workshop.in_container(
            self._engine,
            workshop.job_of(argv, "python3", room, env, shows, output, timeout_s),
            self._owner,
            image=f"{self._prefix}{runtime}:latest",
            network=self._egress.network if network else "none",
            uid=self.uid,
        )

    # -- housekeeping ------------------------------------------------------------------------------------

    async def check(self) -> list[tuple[str, bool, str]]:
        """Findings for `faas doctor`."""
        try:
            version = await self._engine.call(lambda client: client.version())
        except FaasError as error:
            return [("docker engine", False, f"{error.message} {error.hint}".strip())]
        findings = [("docker engine", True, f"{version['Version']} (API {version['ApiVersion']})")]
        names = await self.runtimes()
        fix = "none built; fix: faas runtimes build python3.11"
        findings.append(("runtime images", bool(names), ", ".join(names) or fix))
        if self.capabilities.mounts:
            findings.append(("late mounts", True, "dependencies can be mounted into running instances"))
        else:
            why = "not root, or the engine has another mount namespace; dependencies make starts slower"
            findings.append(("late mounts", True, f"off: {why}"))
        return findings + await self._egress.check()

    def _reconnected(self) -> None:
        """An engine that was away may be back without our network, and a firewall without our rules."""
        self._lives.spawn(self._egress.ensure(), "docker-egress")
        owed, self._owed = self._owed, set()
        for instance in owed:
            self._lives.spawn(self._lives.destroy(instance), f"owed-{instance}")


def _usage_from(stats: dict[str, Any]) -> Usage | None:
    """The engine's own numbers; None when it has none, as for a container that has ended."""
    memory = stats.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    details = memory.get("stats") or {}
    droppable = details.get("total_inactive_file", details.get("inactive_file", 0))
    nanoseconds = stats["cpu_stats"]["cpu_usage"]["total_usage"]
    return Usage(memory=max(0, memory["usage"] - droppable), cpu_s=nanoseconds / 1e9)


async def built_runtimes(engine: Engine, prefix: str = IMAGE_PREFIX) -> list[str]:
    """Names of the runtimes whose image is on `engine`."""
    images = await engine.call(lambda client: client.images(filters={"label": RUNTIME_LABEL}))
    tags = {tag for image in images for tag in image.get("RepoTags") or []}
    return sorted(
        tag.removeprefix(prefix).removesuffix(":latest")
        for tag in tags
        if tag.startswith(prefix) and tag.endswith(":latest")
    )
