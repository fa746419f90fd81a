"""Runs uv: a declaration into a recipe, a recipe into a directory. Bounded in time, output and disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import uv
from msgspec.structs import replace

from faas.deps import commands, rooms
from faas.deps.commands import CACHE, LISTED, LOCK, OUTPUT, SITE
from faas.deps.recipe import Recipe, own_platform, python_of
from faas.deps.words import TIMED_OUT, DependenciesFailed, failure, needs_source
from faas.errors import Unavailable
from faas.model import Requires
from faas.requirements import has_addresses, is_hashed, secrets_in, with_secrets
from faas.units import show_size

RESOLVE_S = 120.0
INSTALL_S = 600.0
COMPILE_S = 300.0
SIZE_MAX = 2 * 1024 * 1024 * 1024
"""Most bytes on disk of one set of packages, and of what is needed to build them."""
CACHE_MAX = 4 * 1024 * 1024 * 1024
"""Downloads beyond this many bytes are thrown away, all of them, before the next resolution."""
LOCK_MAX = 4 * 1024 * 1024
OUTPUT_MAX = 256 * 1024
LOOK_S = 1.0
"""Seconds between two looks at how large a room has become."""

SecretsOf = Callable[[str, Iterable[str]], dict[str, str]]
"""App and names -> values. Raises NotFound naming one that is missing."""


class Workshop(Protocol):
    """A place like an instance, in which code of packages may run. Implemented by drivers."""

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
        """Run `argv` in `room`, which it may write to; what it prints goes to `output` there. Returns its exit code.

        TIMED_OUT when it took longer than `timeout_s`. Cancelled, nothing of it runs on.

        Raises:
            NotFound: no such runtime here. Unavailable: the engine does not answer.
        """
        ...


class Installer:
    """Makes recipes and follows them. Safe for several at once, in rooms of their own.

    Args:
        cache: where the node keeps downloads; made when missing.
        environ: the node's environment: proxies, certificates, indexes.
    """

    def __init__(self, workshop: Workshop, cache: Path, secrets_of: SecretsOf, environ: Mapping[str, str]) -> None:
        self._workshop = workshop
        self._cache = cache
        self._secrets_of = secrets_of
        self._environ = environ
        self._uv = uv.find_uv_bin()
        self._busy = 0

    async def lock(self, requires: Requires, runtime: str, app: str, room: Path) -> Recipe | None:
        """Resolve a declaration in normal form, in an empty room. None: nothing is to be installed on this platform.

        Raises:
            DependenciesFailed: no solution, no such package, a build that failed: in uv's words.
            Unavailable: the index or the engine does not answer. NotFound: a secret or the runtime is missing.
        """
        wheels = commands.wheels_for(python_of(runtime), own_platform(), sys.executable)
        text = requires.requirements
        private = bool(requires.index) or has_addresses(text)
        recipe = Recipe(
            lock=text,
            runtime=runtime,
            platform=own_platform(),
            workshop=private,
            index=requires.index,
            app=app if secrets_in(requires.index) else "",
        )
        await asyncio.to_thread((room / LISTED).write_text, text)
        if not self._busy:
            await asyncio.to_thread(self._bound_cache)
        if not private:
            argv = commands.try_lock(self._uv, wheels) if is_hashed(text) else commands.resolve(self._uv, wheels)
            code = await self._as_node(argv, room, RESOLVE_S)
            output = await asyncio.to_thread(rooms.read_plain, room / OUTPUT, OUTPUT_MAX)
            if code == 0:
                return await self._locked(recipe, room)
            if not needs_source(output):
                raise failure("resolving the dependencies", code, output, (), RESOLVE_S)
        recipe = replace(recipe, workshop=True)
        if not is_hashed(text):
            await self._in_workshop("resolving", commands.resolve(self._uv, commands.in_place()), room, recipe)
        return await self._locked(recipe, room)

    async def fill(self, room: Path, recipe: Recipe) -> Path:
        """Install what the recipe says, in a room that is empty or `lock` was in. Returns the sealed directory below.

        Raises:
            DependenciesFailed: a build that failed, a hash that differs, too large. Unavailable, NotFound: see `lock`.
        """
        if recipe.platform != own_platform():
            raise Unavailable(
                f"the dependencies were resolved for {recipe.platform}, and this node is {own_platform()}",
                hint="Use machines of one kind in a cluster.",
            )
        site = room / SITE
        await asyncio.to_thread(_begin, room, recipe.lock)
        if recipe.workshop:
            argv = commands.install(self._uv, recipe.lock, commands.in_place())
            await self._in_workshop("installing", argv, room, recipe)
        else:
            wheels = commands.wheels_for(python_of(recipe.runtime), recipe.platform, sys.executable)
            code = await self._as_node(commands.install(self._uv, recipe.lock, wheels), room, INSTALL_S)
            if code != 0:
                output = await asyncio.to_thread(rooms.read_plain, room / OUTPUT, OUTPUT_MAX)
                raise failure("installing the dependencies", code, output, (), INSTALL_S)
        # A file that is not for this Python stays without byte code and is found out by who imports it.
        compiling = self._workshop.work(
            recipe.runtime,
            commands.compile_all(),
            room,
            env={},
            network=False,
            shows=(),
            output=OUTPUT,
            timeout_s=COMPILE_S,
        )
        await self._watched(compiling, room)
        await asyncio.to_thread(rooms.seal, site)
        return site

    async def _locked(self, recipe: Recipe, room: Path) -> Recipe | None:
        if is_hashed(recipe.lock):
            return recipe
        lock = await asyncio.to_thread(rooms.read_plain, room / LOCK, LOCK_MAX)
        if len(lock) >= LOCK_MAX:
            raise DependenciesFailed("the lock of the dependencies is too large", hint="Depend on fewer packages.")
        return replace(recipe, lock=lock) if lock.strip() else None

    async def _in_workshop(self, what: str, argv: list[str], room: Path, recipe: Recipe) -> None:
        limit_s = INSTALL_S
        values = self._secrets_of(recipe.app, secrets_in(recipe.index)) if recipe.index else {}
        index = with_secrets(recipe.index, values)
        work = self._workshop.work(
            recipe.runtime,
            argv,
            room,
            env=commands.workshop_environment(self._environ, index),
            network=True,
            shows=commands.shown_to_workshops(self._uv, self._environ),
            output=OUTPUT,
            timeout_s=limit_s,
        )
        code = await self._watched(work, room)
        if code != 0:
            output = await asyncio.to_thread(rooms.read_plain, room / OUTPUT, OUTPUT_MAX)
            raise failure(f"{what} the dependencies", code, output, values.values(), limit_s)

    async def _as_node(self, argv: list[str], room: Path, limit_s: float) -> int:
        env = commands.node_environment(self._environ, self._cache)
        self._busy += 1
        try:
            return await self._watched(_run(argv, room, env, limit_s), room)
        finally:
            self._busy -= 1

    async def _watched(self, work: Coroutine[Any, Any, int], room: Path) -> int:
        """The result of `work`, unless the room becomes too large before. Cancelled, `work` is too, and waited for."""
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=LOOK_S))[0]:
                if await asyncio.to_thread(rooms.size_of, room) > SIZE_MAX:
                    raise _too_large()
            code = task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if await asyncio.to_thread(rooms.size_of, room) > SIZE_MAX:
            raise _too_large()
        return code

    def _bound_cache(self) -> None:
        if self._cache.is_dir() and rooms.size_of(self._cache) > CACHE_MAX:
            shutil.rmtree(self._cache, ignore_errors=True)


async def _run(argv: list[str], room: Path, env: Mapping[str, str], limit_s: float) -> int:
    """Run a program of ours; its output goes to OUTPUT in the room."""
    with (room / OUTPUT).open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=room, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        return await asyncio.wait_for(process.wait(), limit_s)
    except TimeoutError:
        return TIMED_OUT
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _begin(room: Path, lock: str) -> None:
    rooms.clear(room, but=CACHE)
    (room / LOCK).write_text(lock)
    (room / SITE).mkdir()


def _too_large() -> DependenciesFailed:
    return DependenciesFailed(
        f"the dependencies take more than {show_size(SIZE_MAX)} on disk", hint="Depend on fewer or smaller packages."
    )
