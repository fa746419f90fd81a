"""Handlers: functions, their scale, versions and aliases."""

from __future__ import annotations

import asyncio

from faas.api.schemas import (
    AppQuery,
    Detail,
    DiffQuery,
    FunctionList,
    Lock,
    LockQuery,
    Moved,
    PauseBody,
    RollbackBody,
    ScaleBody,
    VersionList,
    WeightsBody,
)
from faas.api.table import Call
from faas.api.views import detail, versions, view
from faas.control.diff import Diff, FileChange, diff_files, setting_changes
from faas.control.live import way_back
from faas.control.tokens import Principal
from faas.errors import Conflict, Forbidden, NotFound
from faas.model import Function, Scale
from faas.names import check_app


async def list_functions(call: Call) -> FunctionList:
    """All functions the caller may see, by app and name."""
    wanted: AppQuery = call.query
    check_filter(call.who, wanted.app)
    functions = [
        function
        for _, function in sorted(call.services.catalog.snapshot.functions.items())
        if call.who.sees(function.app) and wanted.app in ("", function.app)
    ]
    return FunctionList([view(function, call.services.runner) for function in functions])


async def get_function(call: Call) -> Detail:
    """One function in full."""
    return _detail(call, call.services.catalog.get(call.function))


async def delete_function(call: Call) -> None:
    """Remove it with all its versions, and the log it left on this node."""
    await call.services.functions.remove(call.function)
    await call.services.logs.remove(call.function)


async def set_scale(call: Call) -> Detail:
    """Override a version's `min` and `max`."""
    body: ScaleBody = call.body
    call.notes.detail = f"min {_shown(body.min)}, max {_shown(body.max)}"
    return _detail(call, await call.services.functions.scale(call.function, Scale(min=body.min, max=body.max)))


async def reset_scale(call: Call) -> Detail:
    """Back to what versions say."""
    return _detail(call, await call.services.functions.scale(call.function, Scale()))


async def list_versions(call: Call) -> VersionList:
    """History, newest first."""
    history = await call.services.functions.versions(call.function)
    return VersionList(versions(call.services.catalog.get(call.function), history))


async def rollback(call: Call) -> Moved:
    """Move `live` back."""
    body: RollbackBody = call.body
    before, after = await call.services.functions.rollback(call.function, body.to)
    call.notes.touched[call.function] = (before, after)
    return Moved(from_=before, to=after)


async def set_alias(call: Call) -> Detail:
    """Point an alias at versions."""
    body: WeightsBody = call.body
    shares = ", ".join(f"@{number} {weight}%" for number, weight in list(body.weights.items())[:20])
    call.notes.detail = f"{call.path['alias']} -> {shares}"
    return _detail(call, await call.services.functions.set_alias(call.function, call.path["alias"], body.weights))


async def delete_alias(call: Call) -> Detail:
    """Remove an alias."""
    call.notes.detail = call.path["alias"]
    return _detail(call, await call.services.functions.drop_alias(call.function, call.path["alias"]))


async def pause(call: Call) -> Detail:
    """Refuse calls."""
    body: PauseBody = call.body
    reason = pause_reason(call, body)
    return _detail(call, await call.services.functions.pause(call.function, reason))


async def resume(call: Call) -> Detail:
    """Take calls."""
    return _detail(call, await call.services.functions.resume(call.function))


async def diff(call: Call) -> Diff:
    """Compare two versions."""
    wanted: DiffQuery = call.query
    services, name = call.services, call.function
    function = services.catalog.get(name)
    live = function.live()
    after, before = way_back(function) or (live.number if live else 0, 0)
    numbers = (wanted.from_ or before, wanted.to or after)
    if not all(numbers):
        raise Conflict(
            f"{name} has no two versions that were live one after the other", hint=f"name two: faas diff {name} 1 2"
        )
    old, new = [(await services.catalog.version_of(name, number))[1] for number in numbers]
    files: list[FileChange] = []
    more = 0
    if old.code != new.code:
        folders = [await services.code.folder(version.code) for version in (old, new)]
        try:
            files, more = await asyncio.to_thread(diff_files, *folders)
        except FileNotFoundError as cause:
            raise Conflict(f"a version of {name} was removed while it was compared", hint="run it again") from cause
    return Diff(
        from_=old.number,
        to=new.number,
        settings=setting_changes(old.settings, new.settings),
        dependencies=old.deps != new.deps,
        files=files,
        more_files=more,
    )


async def lock(call: Call) -> Lock:
    """The lock of one version."""
    wanted: LockQuery = call.query
    services, name = call.services, call.function
    live = services.catalog.get(name).live()
    number = wanted.version or (live.number if live else 0)
    if not number:
        raise NotFound(f"{name} has no live version", hint=f"name one: faas show {name} --lock --version N")
    _, version = await services.catalog.version_of(name, number)
    found = await services.dependencies.lock(version.deps) if version.requires and version.deps else ""
    return Lock(version=number, lock=found)


def pause_reason(call: Call, body: PauseBody) -> str:
    """The reason given, or who gave none; noted for the audit trail."""
    call.notes.detail = reason = body.reason.strip() or f"paused by {call.who.name}"
    return reason


def _shown(bound: int | None) -> str:
    return "as pushed" if bound is None else str(bound)


def check_filter(who: Principal, app: str) -> None:
    """Raises Invalid or Forbidden when `app`, from a query, cannot be listed."""
    if app and not who.sees(check_app(app)):
        raise Forbidden(f"{who.name} has no access to app {app}")


def _detail(call: Call, function: Function) -> Detail:
    return detail(function, call.services.runner)
