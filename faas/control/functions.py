"""Changes to a function's record: scale, aliases, rollback, removal. Each is one compare-and-set."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from msgspec.structs import replace

from faas.control.catalog import Catalog
from faas.control.code import Code
from faas.errors import Conflict, Invalid, NotFound
from faas.model import Function, Scale, Version
from faas.names import LIVE, FunctionName
from faas.store.registry import Registry, Snapshot

TRIES = 10
"""Times a change is computed anew because someone else changed the record in between."""
INSTANCES_MAX = 10_000
"""Highest `min` and `max`, the same as in a version's settings."""
ALIASES_MAX = 100
"""Most aliases of one function."""

Edit = Callable[[Function], Awaitable[Function]]


class Functions:
    """Everything that changes a function except a push."""

    def __init__(
        self,
        catalog: Catalog,
        registry: Registry,
        code: Code,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._code = code
        self._clock = clock

    async def versions(self, name: FunctionName) -> list[Version]:
        """The versions that became ready at least once, newest first. Raises NotFound."""
        self._catalog.get(name)
        found = await self._registry.versions(name)
        return sorted(found, key=lambda version: version.number, reverse=True)

    async def scale(self, name: FunctionName, scale: Scale) -> Function:
        """Set, or with `Scale()` reset, the scale by hand. Pushes and rollbacks keep it.

        Raises:
            Invalid: out of bounds, or `min` above `max`, given what the live version has for the other.
        """

        async def edit(function: Function) -> Function:
            return replace(function, scale=check_scale(function, scale))

        return await self._change(name, edit)

    async def set_alias(self, name: FunctionName, alias: str, weights: Mapping[int, int]) -> Function:
        """Point `alias` at versions, by percent.

        Raises:
            Invalid: the weights are not whole numbers from 1 to 100 that sum to 100.
            NotFound: there is no such version.
            Conflict: a version's code or a secret it needs is gone.
        """
        shares = check_weights(weights)

        async def edit(function: Function) -> Function:
            if alias not in function.aliases and len(function.aliases) >= ALIASES_MAX:
                raise Conflict(
                    f"{name} has {ALIASES_MAX} aliases, which is the limit",
                    hint=f"remove one with: faas alias rm {name} ALIAS",
                )
            found = [await self._runnable(function, number) for number in shares]
            return point(function, {alias: shares}, found)

        return await self._change(name, edit)

    async def drop_alias(self, name: FunctionName, alias: str) -> Function:
        """Remove an alias; its versions stay. Raises NotFound, and Conflict for `live`."""
        if alias == LIVE:
            raise Conflict(
                "the alias live cannot be removed: plain calls use it",
                hint=f"remove the function with: faas rm {name}",
            )

        async def edit(function: Function) -> Function:
            if alias not in function.aliases:
                known = ", ".join(sorted(function.aliases)) or "none"
                raise NotFound(f'{name} has no alias "{alias}"; it has: {known}')
            left = {other: weights for other, weights in function.aliases.items() if other != alias}
            return replace(function, aliases=left, versions=_referenced(left, function.versions))

        return await self._change(name, edit)

    async def rollback(self, name: FunctionName, to: int | None = None) -> tuple[int, int]:
        """Move `live` to version `to`, or to the highest version below the present one.

        Returns:
            The numbers moved from and to.

        Raises:
            NotFound: there is no such version.
            Conflict: nothing is live, nothing is older, or the version cannot run any more.
        """
        moved = (0, 0)

        async def edit(function: Function) -> Function:
            nonlocal moved
            live = function.live()
            if live is None:
                raise Conflict(f"{name} has no live version to go back from", hint=f"push {name} first")
            number = to if to is not None else self._before(name, live, await self._registry.versions(name))
            version = await self._runnable(function, number)
            moved = (live.number, version.number)
            return point(function, {LIVE: {version.number: 100}}, [version])

        await self._change(name, edit)
        return moved

    async def remove(self, name: FunctionName) -> None:
        """Delete the record, its versions and aliases. Calls under way end, later ones get 404.

        Raises:
            NotFound: there is no such function.
        """
        for _ in range(TRIES):
            function = self._catalog.get(name)
            try:
                await self._registry.apply(delete=[function])
                break
            except Conflict:
                await self._catalog.load()
        else:
            raise _busy(name)
        await self._catalog.until(lambda now: _gone(now, function))

    async def _change(self, name: FunctionName, edit: Edit) -> Function:
        """Apply `edit` to the record as it is in Redis, whoever else writes."""
        for _ in range(TRIES):
            function = self._catalog.get(name)
            edited = await edit(function)
            if edited == function:
                return function
            try:
                saved = await self._registry.apply(put=[replace(edited, updated_at=self._clock())])
            except Conflict:
                await self._catalog.load()
                continue
            await self._catalog.until(lambda now: reflects(now, saved))  # noqa: B023  awaited right here
            return saved[0]
        raise _busy(name)

    async def _runnable(self, function: Function, number: int) -> Version:
        """Version `number`, which has all it needs to start."""
        name = function.id
        _, version = await self._catalog.version_of(name, number)
        for bundle in filter(None, (version.code, version.deps)):
            if not await self._code.ensure(bundle):
                raise Conflict(
                    f"the code of {name}@{number} ({bundle[:12]}) is no longer stored", hint=f"push {name} again"
                )
        known = self._catalog.snapshot.secrets
        gone = [secret for secret in version.settings.secrets if f"{name.app}/{secret}" not in known]
        if gone:
            raise Conflict(
                f"{name}@{number} needs the secret {gone[0]}, which app {name.app} no longer has",
                hint=f"set it with: faas secrets set {gone[0]} --app {name.app}",
            )
        return version

    @staticmethod
    def _before(name: FunctionName, live: Version, history: Iterable[Version]) -> int:
        older = [version.number for version in history if version.number < live.number]
        if not older:
            raise Conflict(
                f"{name} has no version before {live.number}",
                hint=f"name one with --to; list them with: faas versions {name}",
            )
        return max(older)


def point(function: Function, aliases: Mapping[str, dict[int, int]], found: Iterable[Version]) -> Function:
    """`function` with these aliases moved, and exactly the versions in its record that any alias points to."""
    merged = {**function.aliases, **aliases}
    known = {**function.versions, **{version.number: version for version in found}}
    return replace(function, aliases=merged, versions=_referenced(merged, known))


def reflects(snapshot: Snapshot, saved: Iterable[Function]) -> bool:
    """True when `snapshot` has these records, or newer ones: revisions of a name never repeat."""
    functions = snapshot.functions
    return all((now := functions.get(function.id.key)) is not None and now.rev >= function.rev for function in saved)


def check_weights(weights: Mapping[int, int]) -> dict[int, int]:
    """Weights by ascending version. Raises Invalid naming the rule."""
    if not weights:
        raise Invalid("an alias needs at least one version", hint='such as {"weights": {"3": 100}}')
    for number, weight in weights.items():
        if number < 1 or not 1 <= weight <= 100:
            raise Invalid(f"weight {weight} for version {number}: weights are percent, from 1 to 100")
    total = sum(weights.values())
    if total != 100:
        raise Invalid(f"the weights sum to {total}; they must sum to 100")
    return dict(sorted(weights.items()))


def check_scale(function: Function, scale: Scale) -> Scale:
    """`scale` itself, if it makes sense together with the live version's settings. Raises Invalid."""
    for key, value, low in (("min", scale.min, 0), ("max", scale.max, 1)):
        if value is not None and not low <= value <= INSTANCES_MAX:
            raise Invalid(f"{key} = {value}: {key} is from {low} to {INSTANCES_MAX}")
    least, most = bounds(function, scale)
    if scale != Scale() and least > most:
        raise Invalid(f"min = {least} is more than max = {most}", hint="set both: faas scale NAME --min N --max M")
    return scale


def bounds(function: Function, scale: Scale | None = None) -> tuple[int, int]:
    """Least and most instances in force: set by hand, else by the live version; (0, 0) when there is neither."""
    chosen = function.scale if scale is None else scale
    live = function.live()
    least = chosen.min if chosen.min is not None else (live.settings.min if live else 0)
    most = chosen.max if chosen.max is not None else (live.settings.max if live else max(least, 0))
    return least, most


def _referenced(aliases: Mapping[str, dict[int, int]], known: Mapping[int, Version]) -> dict[int, Version]:
    numbers = sorted({number for weights in aliases.values() for number in weights})
    return {number: known[number] for number in numbers}


def _gone(snapshot: Snapshot, function: Function) -> bool:
    now = snapshot.functions.get(function.id.key)
    return now is None or now.rev > function.rev


def _busy(name: FunctionName) -> Conflict:
    return Conflict(f"{name} was changed by others {TRIES} times in a row", hint="run it again")
