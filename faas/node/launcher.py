"""Makes instances and ends them: directory, socket, driver, code, INIT; and all of it backwards.

launch(spec)              DIR/ID made, listening, driver started, both connections up -> stem cell
specialise(instance, v)   limits, code, dependencies, INIT                              -> ready
destroy(instance)         connections, mounts, container, directory                     -> nothing
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from faas.bundles import BundleStore
from faas.drivers.api import Driver, InstanceSpec
from faas.errors import FaasError, Unavailable
from faas.ids import new_id
from faas.model import Function, Version, VersionId
from faas.names import FunctionName
from faas.node import mounts
from faas.node.connection import close_listener, listen
from faas.node.instance import Instance
from faas.node.lifecycle import Hooks

log = structlog.get_logger(__name__)

CONNECT_S = 20.0
"""Seconds a runtime may take from the driver's start to both connections."""

STANDARD = InstanceSpec(id="", runtime="", dir=Path())
"""A stem cell's limits."""

FetchBundle = Callable[[str], Awaitable[None]]
SecretsOf = Callable[[FunctionName, Iterable[str]], dict[str, str]]


class Launcher:
    """Owns the directories below `root` (one per instance). Safe for many instances at once."""

    def __init__(
        self,
        *,
        node_id: str,
        root: Path,
        driver: Driver,
        bundles: BundleStore,
        fetch: FetchBundle,
        secrets_of: SecretsOf,
        hooks: Hooks,
        view: Callable[[], Path] | None = None,
    ) -> None:
        """
        Args:
            view: where the store of `bundles` is to be mounted from now, read-only. None: the store itself.
        """
        self._node_id = node_id
        self._root = root
        self._driver = driver
        self._bundles = bundles
        self._fetch = fetch
        self._secrets_of = secrets_of
        self._hooks = hooks
        self._view = view or (lambda: bundles.root)

    async def launch(self, *, runtime: str, network: str, version: Version | None = None) -> Instance:
        """A stem cell; with `version`, one with that version's limits and dependencies from the start.

        Raises:
            NotFound: no such runtime. Unavailable: the engine does not answer. InstanceDied: it ended at once.
        """
        id = new_id("i")
        directory = self._root / id
        spec = InstanceSpec(id=id, runtime=runtime, dir=directory, network="none" if network == "none" else "egress")
        if version is not None:
            await self._ensure_bundles(version)
            spec = _with_limits(spec, version, self._deps_of(version))
        instance = Instance(spec, self._hooks)
        try:
            _make_directory(directory)
            instance.listener = await listen(directory, self._driver.uid, instance.link.accept)
            inside = await self._driver.start(spec)
            instance.inside_dir = inside.dir
            await instance.wait_up(CONNECT_S)
        except OSError as cause:
            raise await self._abandon(instance, _no_disk(directory, cause)) from cause
        except BaseException as error:
            await self._abandon(instance, error)
            raise
        return instance

    async def specialise(self, instance: Instance, function: Function, version: Version) -> dict[str, Any]:
        """Turn a stem cell into an instance of `version`; returns READY's info.

        Raises:
            StartFailed: the code did not load. InstanceDied: it ended while loading. Unavailable: engine, bundle.
        """
        settings = version.settings
        try:
            await self._ensure_bundles(version)
            spec = instance.spec
            if (spec.memory, spec.cpu) != (settings.memory, settings.cpu):
                if self._driver.capabilities.resize:
                    await self._driver.resize(instance.id, memory=settings.memory, cpu=settings.cpu)
                instance.spec = msgspec.structs.replace(spec, memory=settings.memory, cpu=settings.cpu)
            await self._materialise(version, spec.dir / "code")
            if version.deps and spec.deps is None:
                mounts.bind(self._view() / version.deps, spec.dir / "deps")
            id = VersionId(function.app, function.name, version.number)
            return await instance.load(id, self._init_spec(instance, function, version), settings.start_timeout_s)
        except OSError as cause:
            raise await self._abandon(instance, _no_disk(instance.spec.dir, cause)) from cause
        except BaseException as error:
            await self._abandon(instance, error)
            raise

    async def destroy(self, instance: Instance) -> None:
        """End it and remove every trace. Idempotent; never raises for what is already gone."""
        instance.die(Unavailable("the instance was stopped"))
        close_listener(instance.listener)
        mounts.unbind(instance.spec.dir / "deps")
        try:
            await self._driver.destroy(instance.id)
        except FaasError as error:
            log.warning("instance not removed; the reaper tries again", instance=instance.id, error=error.message)
        await asyncio.to_thread(_remove_tree, instance.spec.dir)

    def stem_fits(self, version: Version) -> bool:
        """True when a stem cell can become this version: with its dependencies and under its limits."""
        can, settings = self._driver.capabilities, version.settings
        standard = (settings.memory, settings.cpu) == (STANDARD.memory, STANDARD.cpu)
        return (not version.deps or can.mounts) and (standard or can.resize)

    async def _abandon(self, instance: Instance, error: BaseException) -> FaasError:
        reason = error if isinstance(error, FaasError) else Unavailable("the start was given up")
        instance.die(reason)
        await asyncio.shield(self.destroy(instance))
        return reason

    def _deps_of(self, version: Version) -> Path | None:
        return self._bundles.path(version.deps) if version.deps else None

    async def _ensure_bundles(self, version: Version) -> None:
        for digest in (version.code, version.deps):
            if digest and not self._bundles.has(digest):
                await self._fetch(digest)

    async def _materialise(self, version: Version, destination: Path) -> None:
        link = self._driver.capabilities.trusted_files
        await asyncio.to_thread(self._bundles.materialise, version.code, destination, link)

    def _init_spec(self, instance: Instance, function: Function, version: Version) -> dict[str, Any]:
        settings = version.settings
        inside = instance.inside_dir
        return {
            "app": function.app,
            "function": function.name,
            "version": version.number,
            "node": self._node_id,
            "instance": instance.id,
            "code": f"{inside}/code",
            "deps": [f"{inside}/deps"] if version.deps else [],
            "handler": settings.handler,
            "style": settings.style,
            "env": dict(settings.env),
            "secrets": self._secrets_of(function.id, settings.secrets),
            "concurrency": settings.concurrency,
            "timeout_ms": int(settings.timeout_s * 1000),
            "memory": settings.memory,
            "network": settings.network,
        }


def _with_limits(spec: InstanceSpec, version: Version, deps: Path | None) -> InstanceSpec:
    settings = version.settings
    return msgspec.structs.replace(spec, memory=settings.memory, cpu=settings.cpu, deps=deps)


def _no_disk(directory: Path, cause: OSError) -> Unavailable:
    return Unavailable(
        f"an instance cannot be set up in {directory}: {cause.strerror or cause}",
        hint="Check free space and permissions of the data directory.",
    )


def _make_directory(directory: Path) -> None:
    directory.mkdir(mode=0o711)
    directory.chmod(0o711)
    for name in ("code", "deps"):
        (directory / name).mkdir(mode=0o755)
        (directory / name).chmod(0o755)


def _remove_tree(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory, onerror=_make_writable)


def _make_writable(_function: object, path: str, _error: object) -> None:
    """Bundles are read-only directories: a user who is not root opens them up to delete them."""
    with contextlib.suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
