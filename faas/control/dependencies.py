"""Dependencies of versions: a declaration becomes a recipe in Redis, a recipe a directory on each node's disk.

```
 push --settle--> same declaration before? --yes--> its recipe
                     | no: resolve -> recipe -> Redis, under the hash of its text = Version.deps
 any start --Code.ensure--> on disk? else recipe from Redis --follow--> install, once however many ask
 change of the registry --KeepReady--> the same, before anyone calls
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from msgspec.structs import replace

from faas.bundles import BundleStore
from faas.control.catalog import Catalog
from faas.control.code import Code
from faas.deps.recipe import Recipe, declaration, key_of, read_recipe
from faas.errors import FaasError
from faas.model import FunctionPush, Requires
from faas.store.blobs import Blobs
from faas.store.registry import Snapshot
from faas.store.tasks import end

T = TypeVar("T")
_log = structlog.get_logger("faas.dependencies")

AT_ONCE = 2
"""Resolutions and installations at a time: each takes a core and much of the disk."""
RETRY_S = 60.0
"""Pause before an installation ahead of calls is tried again."""


class Maker(Protocol):
    """What resolves and installs: `faas.deps.installer.Installer`, or a scripted one in tests."""

    async def lock(self, requires: Requires, runtime: str, app: str, room: Path) -> Recipe | None:
        """See `Installer.lock`."""
        ...

    async def fill(self, room: Path, recipe: Recipe) -> Path:
        """See `Installer.fill`."""
        ...


class Flights:
    """Work by key: whoever asks while it runs waits for the same. Giving up waiting does not end it."""

    def __init__(self, at_once: int) -> None:
        self._gate = asyncio.Semaphore(at_once)
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `work`, begun by the first who asked for `key`. Raises what it raised."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(self._gated(work), name=f"dependencies {key[:12]}")
            task.add_done_callback(lambda done: self._landed(key, done))
        result: T = await asyncio.shield(task)
        return result

    async def _gated(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async with self._gate:
            return await work()

    def _landed(self, key: str, task: asyncio.Task[Any]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # seen, also when everyone has given up

    async def aclose(self) -> None:
        """Cancel what runs and wait for its end."""
        await asyncio.gather(*map(end, list(self._tasks.values())))


class Dependencies:
    """Resolves and installs, each thing once at a time on this node."""

    def __init__(self, catalog: Catalog, bundles: BundleStore, blobs: Blobs, installer: Maker) -> None:
        self._catalog = catalog
        self._bundles = bundles
        self._blobs = blobs
        self._installer = installer
        self._flights = Flights(AT_ONCE)

    async def __aenter__(self) -> Dependencies:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._flights.aclose()

    # -- declarations ------------------------------------------------------------------------------------

    def known(self, app: str, requires: Requires, runtime: str) -> str | None:
        """What an earlier version of some function of the app, one an alias points to, has for this declaration."""
        wanted = declaration(requires, runtime)
        found = [
            (version.created_at, version.deps)
            for function in self._catalog.snapshot.functions.values()
            if function.app == app
            for version in function.versions.values()
            if version.requires == wanted
        ]
        return max(found)[1] if found else None

    async def resolve(self, app: str, requires: Requires, runtime: str) -> str:
        """Resolve now. Returns the key of the recipe, which Redis has then; empty: nothing is to be installed.

        Raises:
            DependenciesFailed, Unavailable, NotFound, Invalid: see `Installer.lock`.
        """
        flight = f"{app}/{declaration(requires, runtime)}"
        return await self._flights.run(flight, lambda: self._resolve(app, requires, runtime))

    async def _resolve(self, app: str, requires: Requires, runtime: str) -> str:
        async with AsyncExitStack() as stack:
            room = await self._room(stack)
            recipe = await self._installer.lock(requires, runtime, app, room)
            if recipe is None:
                return ""
            data = recipe.encode()
            key = key_of(data)
            if recipe.workshop:
                # What was fetched and built to learn what it needs is in this room: go on here.
                await self._install(key, recipe, room)
        await self._blobs.put(key, data)
        return key

    async def _install(self, key: str, recipe: Recipe, room: Path) -> None:
        if not await asyncio.to_thread(self._bundles.has, key):
            site = await self._installer.fill(room, recipe)
            await asyncio.to_thread(self._bundles.adopt, key, site)

    async def lock(self, key: str) -> str:
        """The lock a version was installed from; empty when its dependencies came as a bundle."""
        data = await self._blobs.get(key)
        recipe = read_recipe(key, data) if data is not None else None
        return recipe.lock if recipe else ""

    # -- directories -------------------------------------------------------------------------------------

    async def follow(self, key: str, data: bytes) -> bool:
        """Install the recipe in `data`; False when it is none. Implements `faas.control.code.Follow`.

        Raises:
            DependenciesFailed, Unavailable, NotFound, Invalid: see `Installer.fill`.
        """
        recipe = read_recipe(key, data)
        if recipe is None:
            return False

        async def install() -> None:
            async with AsyncExitStack() as stack:
                await self._install(key, recipe, await self._room(stack))

        await self._flights.run(key, install)
        return True

    async def _room(self, stack: AsyncExitStack) -> Path:
        """A room; to remove it may take long, so a thread does."""
        room = self._bundles.room()
        path = await asyncio.to_thread(room.__enter__)
        stack.push_async_callback(asyncio.to_thread, room.__exit__, None, None, None)
        return path


class Settler:
    """Gives the functions of one push their dependencies: the same declaration is resolved once."""

    def __init__(self, dependencies: Dependencies, code: Code, app: str, *, upgrade: bool) -> None:
        self._dependencies = dependencies
        self._code = code
        self._app = app
        self._upgrade = upgrade
        self._settled: dict[str, str] = {}

    async def settle(self, item: FunctionPush, resolving: Callable[[], None]) -> FunctionPush:
        """`item` with `deps`. `resolving` is called when the resolver has to run. Raises what `resolve` does."""
        if item.requires is None:
            return item
        runtime = item.settings.runtime
        declared = declaration(item.requires, runtime)
        if declared not in self._settled:
            known = None if self._upgrade else self._dependencies.known(self._app, item.requires, runtime)
            if known is None or (known and not await self._code.has(known)):
                resolving()
                known = await self._dependencies.resolve(self._app, item.requires, runtime)
            self._settled[declared] = known
        return replace(item, deps=self._settled[declared])


class KeepReady:
    """Installs what versions in use need before anyone calls them: run one on every node."""

    def __init__(self, catalog: Catalog, code: Code) -> None:
        self._catalog = catalog
        self._code = code
        self._failed: set[str] = set()

    async def run(self) -> None:
        """Look after every change of the registry, until cancelled."""
        changed = asyncio.Event()
        changed.set()
        end = self._catalog.subscribe(lambda _: changed.set())
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_S if self._failed else None):
                        await changed.wait()
                changed.clear()
                await self._install_all(self._catalog.snapshot)
        finally:
            end()

    async def _install_all(self, snapshot: Snapshot) -> None:
        wanted = {
            version.deps
            for function in snapshot.functions.values()
            for version in function.versions.values()
            if version.deps and version.requires
        }
        failed = set()
        for key in sorted(wanted):
            try:
                if not await self._code.here(key):
                    await self._code.ensure(key)
            except FaasError as error:
                failed.add(key)
                if key not in self._failed:
                    _log.warning(
                        "dependencies are not on this node: a start here tries again",
                        dependencies=key[:12],
                        error=error.message,
                    )
        self._failed = failed
