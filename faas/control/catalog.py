"""The registry as this node sees it now: one immutable snapshot, swapped whole.

Redis --stream--> Registry.watch --snapshot--> Catalog --swap--> subscribers (pools, routes)
                                                 ^
                          resolve(): one lookup and one draw, no Redis
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from itertools import islice
from typing import NamedTuple, cast

import structlog

from faas.errors import NotFound, Unavailable, did_you_mean
from faas.model import Function, Version
from faas.names import LIVE, FunctionName, Target
from faas.store.registry import Registry, Snapshot

_log = structlog.get_logger("faas.catalog")

VERSIONS_CACHED = 4096
"""Versions outside the records (old ones, asked for as NAME@3) remembered at most."""
SEEN_WITHIN_S = 1.0
"""How long a change of our own may take to come back on the stream before the whole is read again."""
RELOAD_PAUSE_S = 0.5

Subscriber = Callable[[Snapshot], None]


class _Key(NamedTuple):
    """`created_at` tells a function from an earlier one of the same name."""

    function: FunctionName
    created_at: float
    number: int


class Catalog:
    """The current snapshot. Call `load` once, then keep `run` going in a task."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._snapshot = Snapshot()
        self._functions = self._snapshot.functions
        self._subscribers: list[Subscriber] = []
        self._versions: OrderedDict[_Key, Version] = OrderedDict()
        self._loading = asyncio.Lock()
        self._watching = False
        self._swapped = asyncio.Event()

    @property
    def snapshot(self) -> Snapshot:
        """What is known now; never changes in place."""
        return self._snapshot

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call `callback` with each new snapshot, in the event loop. Returns what ends it."""
        self._subscribers.append(callback)

        def end() -> None:
            with suppress(ValueError):
                self._subscribers.remove(callback)

        return end

    async def load(self) -> Snapshot:
        """Read the whole registry and swap. Loads queue up, so that an older one never overtakes."""
        async with self._loading:
            snapshot = await self._registry.load()
            if _is_new(snapshot) and not _is_new(self._snapshot):
                snapshot = await self._write_back()
            self._swap(snapshot)
            return snapshot

    async def _write_back(self) -> Snapshot:
        """Redis lost its data: what the nodes remember is all that is left, and functions must not vanish with it."""
        known = self._snapshot
        ours = await self._registry.restore(known)
        _log.error(
            "Redis came back empty; the registry is written back from memory. Jobs, results and old versions are lost",
            functions=len(known.functions),
            by="this node" if ours else "another node",
        )
        return await self._registry.load()

    async def run(self) -> None:
        """Follow the registry until cancelled."""
        while True:
            try:
                await self._follow()
            except Exception:
                _log.exception("following the registry broke; it begins again")
            await asyncio.sleep(RELOAD_PAUSE_S)
            await self._reload()

    async def _follow(self) -> None:
        self._watching = True
        try:
            watch = cast("AsyncGenerator[Snapshot]", self._registry.watch(self._snapshot))
            async with aclosing(watch) as snapshots:
                async for snapshot in snapshots:
                    if _order(snapshot.position) < _order(self._snapshot.position):
                        # Behind a `load` of ours, or Redis lost its data: only Redis itself knows which.
                        await self._reload()
                    else:
                        self._swap(snapshot)
        finally:
            self._watching = False

    async def _reload(self) -> None:
        while True:
            try:
                await self.load()
                return
            except Unavailable as error:
                _log.warning("the registry cannot be read; functions stay as they were", error=error.message)
                await asyncio.sleep(RELOAD_PAUSE_S)

    async def until(self, reflects: Callable[[Snapshot], bool]) -> None:
        """Return when the snapshot reflects a change just made. For those who change something."""
        if self._watching:
            with suppress(TimeoutError):
                async with asyncio.timeout(SEEN_WITHIN_S):
                    while not reflects(self._snapshot):
                        self._swapped.clear()
                        await self._swapped.wait()
        if not reflects(self._snapshot):
            try:
                await self.load()
            except Unavailable as error:
                # The change itself is stored: to fail now would tell a lie.
                _log.warning("a change is stored but not seen here yet", error=error.message)

    def peek(self, name: FunctionName) -> Function | None:
        """The record, or None."""
        return self._functions.get(name.key)

    def get(self, name: FunctionName) -> Function:
        """The record. Raises NotFound with close names."""
        function = self._functions.get(name.key)
        if function is None:
            raise self._unknown(name)
        return function

    def resolve(self, target: Target, draw: float) -> tuple[Function, Version] | None:
        """What a call to `target` runs. Costs about a microsecond.

        Args:
            draw: a random number in [0, 1): picks one of an alias' versions by weight.

        Returns:
            None when a version number is asked for that is not at hand: `await version_of(...)` finds it.

        Raises:
            NotFound: no such function or alias; names close ones.
        """
        function = self._functions.get(target.function.key)
        if function is None:
            raise self._unknown(target.function)
        if target.version is not None:
            version = function.versions.get(target.version) or self._remembered(function, target.version)
            return None if version is None else (function, version)
        weights = function.aliases.get(target.alias)
        if not weights:
            raise _no_alias(function, target.alias)
        return function, function.versions[pick(weights, draw)]

    async def locate(self, target: Target, draw: float) -> tuple[Function, Version]:
        """Like `resolve`, asking Redis for an old version when it must."""
        found = self.resolve(target, draw)
        if found is None:
            assert target.version is not None
            return await self.version_of(target.function, target.version)
        return found

    async def version_of(self, name: FunctionName, number: int) -> tuple[Function, Version]:
        """Version `number`, whether an alias points at it or not. Raises NotFound."""
        function = self.get(name)
        version = function.versions.get(number) or self._remembered(function, number)
        if version is None and 1 <= number <= function.latest:
            version = await self._registry.version(name, number)
        if version is None:
            raise no_version(function, number)
        self._versions[_Key(name, function.created_at, number)] = version
        if len(self._versions) > VERSIONS_CACHED:
            self._versions.popitem(last=False)
        return function, version

    def _remembered(self, function: Function, number: int) -> Version | None:
        key = _Key(function.id, function.created_at, number)
        version = self._versions.get(key)
        if version is not None:
            self._versions.move_to_end(key)
        return version

    def _swap(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._functions = snapshot.functions
        for callback in tuple(self._subscribers):
            try:
                callback(snapshot)
            except Exception:
                _log.exception("a subscriber failed on a new snapshot; it acts on the old one until the next")
        self._swapped.set()

    def _unknown(self, name: FunctionName) -> NotFound:
        close = did_you_mean(str(name), islice(self._alike(name), 50))
        return NotFound(f'there is no function "{name}"', hint=close or "list functions with: faas ls")

    def _alike(self, name: FunctionName) -> Iterator[str]:
        """Names worth a real comparison, which costs too much for thousands of them."""
        for function in self._functions.values():
            other = function.name
            if abs(len(other) - len(name.name)) <= 2 and (other[0] == name.name[0] or other[-1] == name.name[-1]):
                yield str(function.id)


def pick(weights: dict[int, int], draw: float) -> int:
    """The version number that `draw`, in [0, 1), falls on."""
    point = draw * 100
    for number, weight in weights.items():  # noqa: B007  the last one also takes what rounding leaves
        if point < weight:
            break
        point -= weight
    return number


def no_version(function: Function, number: int) -> NotFound:
    """The error for a version that is not in the history, and why it may not be."""
    name = function.id
    hint = f"list them with: faas versions {name}"
    if not 1 <= number <= function.latest:
        return NotFound(f"{name} has no version {number}; the highest number given out is {function.latest}", hint=hint)
    return NotFound(
        f"{name} has no version {number} any more: it was removed as old, or it never became ready", hint=hint
    )


def _no_alias(function: Function, alias: str) -> NotFound:
    if alias == LIVE:
        return NotFound(
            f"{function.id} has no live version: no push of it has succeeded yet",
            hint=f"push it again, or see why it failed with: faas logs {function.id}",
        )
    known = ", ".join(sorted(function.aliases)) or "none"
    return NotFound(
        f'{function.id} has no alias "{alias}"; it has: {known}',
        hint=did_you_mean(alias, function.aliases) or f"make one with: faas push PATH --alias {alias}",
    )


def _is_new(snapshot: Snapshot) -> bool:
    """Nothing was ever changed in this registry."""
    return snapshot.position == Snapshot().position


def _order(position: str) -> tuple[int, int]:
    """Stream ids in the order Redis gives them out."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence or 0)
