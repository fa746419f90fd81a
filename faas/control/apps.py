"""Changes to all functions of an app, or of every app: one apply, so that they happen together or not at all."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from faas.control.catalog import Catalog
from faas.control.code import Code
from faas.control.editor import Edit, Editor
from faas.control.functions import INSTANCES_MAX, bounds, check_reason, check_scale
from faas.control.live import point, way_back
from faas.control.runnable import Runnable
from faas.errors import Conflict, Invalid, NotFound, did_you_mean
from faas.model import Function, Scale
from faas.names import LIVE, FunctionName
from faas.store import keys
from faas.store.registry import Change as Record
from faas.store.registry import Registry

FACTOR_MAX = 100.0
Change = Callable[[Function], Function]


class Rolled(NamedTuple):
    """What a rollback of many did: versions moved from and to, and functions that had nowhere to go back to."""

    moved: dict[FunctionName, tuple[int, int]]
    stayed: list[FunctionName]


class Apps:
    """Everything that changes an app except a push."""

    def __init__(
        self, catalog: Catalog, registry: Registry, code: Code, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._catalog = catalog
        self._runnable = Runnable(catalog, registry, code)
        self._editor = Editor(catalog, registry, clock)

    def members(self, app: str) -> list[Function]:
        """The app's functions, by name; none when it only has secrets. Raises NotFound with close names."""
        snapshot = self._catalog.snapshot
        found = sorted((f for f in snapshot.functions.values() if f.app == app), key=lambda f: f.name)
        if not found and not self._secrets(app):
            known = {function.app for function in snapshot.functions.values()}
            raise NotFound(f'there is no app "{app}"', hint=did_you_mean(app, known) or "list apps with: faas apps ls")
        return found

    async def rollback(self, app: str | None) -> Rolled:
        """Move `live` of every function of `app`, None: of all apps, to the version that was live before.

        Functions of which nothing was live before stay as they are.

        Raises:
            NotFound: there is no such app, or a version is not kept any more.
            Conflict: none of them can go back, or a version cannot run any more; nothing has moved.
        """
        rolled = Rolled({}, [])

        async def plan() -> Edit:
            nonlocal rolled
            functions = self.members(app) if app is not None else list(self._catalog.snapshot.functions.values())
            back = [(function, way) for function in functions if (way := way_back(function)) is not None]
            if not back:
                where = f"of app {app} " if app is not None else ""
                raise Conflict(
                    f"no function {where}has a version that was live before", hint="push first; see: faas versions NAME"
                )
            found = await self._runnable.find([(function, to) for function, (_, to) in back])
            going = {function.id: way for function, way in back}
            rolled = Rolled(going, [function.id for function in functions if function.id not in going])
            put = [
                point(function, {LIVE: {version.number: 100}}, [version])
                for (function, _), version in zip(back, found, strict=True)
            ]
            return Edit(put=put, versions=list(zip(going, found, strict=True)))

        await self._editor.write(f"app {app}" if app is not None else "the registry", plan)
        return rolled

    async def pause(self, app: str, reason: str) -> list[Function]:
        """Pause every function; those paused already keep their reason. Raises NotFound, Invalid."""
        why = check_reason(reason)
        return await self._change(app, lambda function: replace(function, paused=function.paused or why))

    async def resume(self, app: str) -> list[Function]:
        """Let every function take calls again, whoever paused it. Raises NotFound."""
        return await self._change(app, lambda function: replace(function, paused=""))

    async def scale(self, app: str, scale: Scale) -> list[Function]:
        """Set, or with `Scale()` reset, the scale by hand of every function; a bound that is None stays.

        Raises:
            NotFound: there is no such app.
            Invalid: out of bounds, or `min` above `max` for one of them: then none has changed.
        """

        def change(function: Function) -> Function:
            if scale == Scale():
                return replace(function, scale=scale)
            low = function.scale.min if scale.min is None else scale.min
            high = function.scale.max if scale.max is None else scale.max
            return replace(function, scale=_checked(function, Scale(min=low, max=high)))

        return await self._change(app, change)

    async def scale_by(self, app: str, factor: float) -> list[Function]:
        """Multiply `min` and `max` of every function by `factor`, rounded up. Raises NotFound, Invalid."""
        if not 0 < factor <= FACTOR_MAX:
            raise Invalid(f"by = {factor:g}: it is more than 0 and at most {FACTOR_MAX:g}")

        def change(function: Function) -> Function:
            least, most = (min(math.ceil(bound * factor), INSTANCES_MAX) for bound in bounds(function))
            return replace(function, scale=_checked(function, Scale(min=least, max=max(1, most))))

        return await self._change(app, change)

    async def remove(self, app: str) -> list[Function]:
        """Delete every function with its versions, and the app's secrets; its quota stays. Returns what is gone.

        Raises:
            NotFound: there is no such app.
        """
        gone: list[Function] = []

        async def plan() -> Edit:
            nonlocal gone
            gone = self.members(app)
            rollouts = [Record(keys.ROLLOUT + function.id.key, None) for function in gone]
            return Edit(delete=gone, delete_secrets=self._secrets(app), records=rollouts)

        await self._editor.write(f"app {app}", plan)
        return gone

    def _secrets(self, app: str) -> Sequence[str]:
        return [key for key in self._catalog.snapshot.secrets if key.startswith(f"{app}/")]

    async def _change(self, app: str, change: Change) -> list[Function]:
        def plan() -> Awaitable[Edit]:
            return _edit(self.members(app), change)

        await self._editor.write(f"app {app}", plan)
        return self.members(app)


async def _edit(functions: Sequence[Function], change: Change) -> Edit:
    changed = [(function, change(function)) for function in functions]
    return Edit(put=[new for old, new in changed if new != old])


def _checked(function: Function, scale: Scale) -> Scale:
    try:
        return check_scale(function, scale)
    except Invalid as error:
        raise Invalid(f"{function.id}: {error.message}", hint=error.hint) from error
