"""Changes to a function's record: scale, aliases, rollback, removal. Each is one compare-and-set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from faas.control.catalog import Catalog
from faas.control.code import Code
from faas.control.editor import Edit, Editor
from faas.control.live import point, unpoint, way_back
from faas.control.runnable import Runnable
from faas.errors import Conflict, Invalid, NotFound
from faas.model import Function, Scale, Version
from faas.names import LIVE, FunctionName
from faas.store import keys
from faas.store.registry import Change, Registry

INSTANCES_MAX = 10_000
"""Highest `min` and `max`, the same as in a version's settings."""
ALIASES_MAX = 100
"""Most aliases of one function."""
REASON_MAX = 200
"""Most characters of the reason for a pause."""


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
        self._runnable = Runnable(catalog, registry, code)
        self._editor = Editor(catalog, registry, clock)

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
        return await self._change(name, lambda function: replace(function, scale=check_scale(function, scale)))

    async def pause(self, name: FunctionName, reason: str) -> Function:
        """Take no calls until `resume`: callers get 503 with the reason, queued work stays. Raises Invalid."""
        why = check_reason(reason)
        return await self._change(name, lambda function: replace(function, paused=why))

    async def resume(self, name: FunctionName) -> Function:
        """Take calls again."""
        return await self._change(name, lambda function: replace(function, paused=""))

    async def set_alias(self, name: FunctionName, alias: str, weights: Mapping[int, int]) -> Function:
        """Point `alias` at versions, by percent.

        Raises:
            Invalid: the weights are not whole numbers from 1 to 100 that sum to 100.
            NotFound: there is no such version.
            Conflict: a version's code or a secret it needs is gone.
        """
        shares = check_weights(weights)

        async def plan() -> Edit:
            function = self._catalog.get(name)
            if alias not in function.aliases and len(function.aliases) >= ALIASES_MAX:
                raise Conflict(
                    f"{name} has {ALIASES_MAX} aliases, which is the limit",
                    hint=f"remove one with: faas alias rm {name} ALIAS",
                )
            return await self._pointed(function, alias, shares)

        await self._editor.write(str(name), plan)
        return self._catalog.get(name)

    async def drop_alias(self, name: FunctionName, alias: str) -> Function:
        """Remove an alias; its versions stay. Raises NotFound, and Conflict for `live`."""
        if alias == LIVE:
            raise Conflict(
                "the alias live cannot be removed: plain calls use it",
                hint=f"remove the function with: faas rm {name}",
            )

        def change(function: Function) -> Function:
            if alias not in function.aliases:
                known = ", ".join(sorted(function.aliases)) or "none"
                raise NotFound(f'{name} has no alias "{alias}"; it has: {known}')
            return unpoint(function, alias)

        return await self._change(name, change)

    async def rollback(self, name: FunctionName, to: int | None = None) -> tuple[int, int]:
        """Move `live` to version `to`, or to the one that was live before: twice is there and back.

        Returns:
            The numbers moved from and to.

        Raises:
            NotFound: there is no such version, or no longer.
            Conflict: nothing is live, nothing was live before, or the version cannot run any more.
        """
        moved = (0, 0)

        async def plan() -> Edit:
            nonlocal moved
            function = self._catalog.get(name)
            live = function.live()
            if live is None:
                raise Conflict(f"{name} has no live version to go back from", hint=f"push {name} first")
            back = (live.number, to) if to is not None else way_back(function)
            if back is None:
                raise Conflict(
                    f"{name} has no version that was live before {live.number}",
                    hint=f"name one with --to; list them with: faas versions {name}",
                )
            moved = back
            return await self._pointed(function, LIVE, {moved[1]: 100})

        await self._editor.write(str(name), plan)
        return moved

    async def remove(self, name: FunctionName) -> None:
        """Delete the record, its versions and aliases. Calls under way end, later ones get 404.

        Raises:
            NotFound: there is no such function.
        """

        async def plan() -> Edit:
            return Edit(delete=[self._catalog.get(name)], records=[Change(keys.ROLLOUT + name.key, None)])

        await self._editor.write(str(name), plan)

    async def _pointed(self, function: Function, alias: str, shares: dict[int, int]) -> Edit:
        """The edit that points `alias` there. The versions are written too, in case they are being collected."""
        found = await self._runnable.find([(function, number) for number in shares])
        moved = point(function, {alias: shares}, found)
        if moved == function:
            return Edit()
        return Edit(put=[moved], versions=[(function.id, version) for version in found])

    async def _change(self, name: FunctionName, change: Callable[[Function], Function]) -> Function:
        async def plan() -> Edit:
            function = self._catalog.get(name)
            changed = change(function)
            return Edit() if changed == function else Edit(put=[changed])

        saved = await self._editor.write(str(name), plan)
        return saved[0] if saved else self._catalog.get(name)


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


def check_reason(text: str) -> str:
    """The reason for a pause as it is kept. Raises Invalid naming the rule."""
    reason = text.strip()
    if not reason or len(reason) > REASON_MAX or not reason.isprintable():
        raise Invalid(f"the reason for a pause is 1 to {REASON_MAX} printable characters on one line")
    return reason
