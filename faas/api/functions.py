"""Handlers: functions, their scale, versions and aliases."""

from __future__ import annotations

from faas.api.schemas import (
    AppQuery,
    Detail,
    FunctionList,
    Moved,
    RollbackBody,
    ScaleBody,
    VersionList,
    WeightsBody,
)
from faas.api.table import Call
from faas.api.views import detail, versions, view
from faas.control.tokens import Principal
from faas.errors import Forbidden
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
    return Moved(from_=before, to=after)


async def set_alias(call: Call) -> Detail:
    """Point an alias at versions."""
    body: WeightsBody = call.body
    return _detail(call, await call.services.functions.set_alias(call.function, call.path["alias"], body.weights))


async def delete_alias(call: Call) -> Detail:
    """Remove an alias."""
    return _detail(call, await call.services.functions.drop_alias(call.function, call.path["alias"]))


def check_filter(who: Principal, app: str) -> None:
    """Raises Invalid or Forbidden when `app`, from a query, cannot be listed."""
    if app and not who.sees(check_app(app)):
        raise Forbidden(f"{who.name} has no access to app {app}")


def _detail(call: Call, function: Function) -> Detail:
    return detail(function, call.services.runner)
