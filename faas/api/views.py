"""From records and pools to what the API shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from faas.api.schemas import AppView, Detail, State, VersionView, View
from faas.control.diff import changes
from faas.control.functions import bounds
from faas.control.ports import PoolView, Runner
from faas.model import Function, Version
from faas.settings import show_settings


def view(function: Function, runner: Runner) -> View:
    """A function at a glance."""
    pools = runner.pools(function.id)
    live = function.live()
    least, most = bounds(function)
    return View(
        name=str(function.id),
        app=function.app,
        function=function.name,
        live=live.number if live else None,
        aliases=_aliases(function),
        runtime=live.settings.runtime if live else "",
        memory=live.settings.memory if live else 0,
        min=least,
        max=most,
        instances=sum(sum(pool.states.values()) for pool in pools),
        in_flight=sum(pool.in_flight for pool in pools),
        waiting=sum(pool.waiting for pool in pools),
        url=f"{runner.node_info().url.rstrip('/')}/function/{function.id}",
        created_at=function.created_at,
        updated_at=function.updated_at,
        created_by=live.created_by if live else "",
        paused=function.paused,
        state=_state(function, live, pools),
        public=live.settings.public if live else False,
    )


def detail(function: Function, runner: Runner) -> Detail:
    """A function in full."""
    live = function.live()
    return Detail(
        **structs.asdict(view(function, runner)),
        settings=show_settings(live.settings) if live else {},
        scale=function.scale,
        code=live.code if live else "",
        deps=live.deps if live else "",
        pools=sorted(runner.pools(function.id), key=lambda pool: pool.version, reverse=True),
    )


def app_view(name: str, functions: Sequence[Function], secrets: int, runner: Runner) -> AppView:
    """An app at a glance."""
    pools = [pool for function in functions for pool in runner.pools(function.id)]
    return AppView(
        name=name,
        functions=len(functions),
        paused=sum(bool(function.paused) for function in functions),
        secrets=secrets,
        instances=sum(sum(pool.states.values()) for pool in pools),
        in_flight=sum(pool.in_flight for pool in pools),
        waiting=sum(pool.waiting for pool in pools),
        updated_at=max((function.updated_at for function in functions), default=0.0),
    )


def versions(function: Function, history: Sequence[Version]) -> list[VersionView]:
    """A function's history, newest first, each version with the aliases that point to it."""
    return [
        VersionView(
            number=version.number,
            created_at=version.created_at,
            created_by=version.created_by,
            code=version.code,
            deps=version.deps,
            settings=show_settings(version.settings),
            aliases=sorted(alias for alias, weights in function.aliases.items() if version.number in weights),
            changes=None if before is None else changes(before, version),
        )
        for version, before in zip(history, (*history[1:], None), strict=True)
    ]


def _aliases(function: Function) -> dict[str, dict[str, int]]:
    return {
        alias: {str(number): weight for number, weight in weights.items()}
        for alias, weights in function.aliases.items()
    }


def _state(function: Function, live: Version | None, pools: Iterable[PoolView]) -> State:
    if function.paused:
        return "paused"
    pool = next((pool for pool in pools if live and pool.version == live.number), None)
    if pool is None:
        return "cold"
    if pool.free or pool.in_flight:
        return "ready"
    if pool.last_error:
        return "crash_loop"
    return "ready" if any(pool.states.values()) else "cold"
