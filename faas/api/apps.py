"""Apps as a whole, and rollback of everything: handlers and their rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from faas.api.functions import pause_reason
from faas.api.schemas import AppDetail, AppList, AppScaleBody, Moved, PauseBody, Rolled
from faas.api.table import Call, Route
from faas.api.views import app_view, view
from faas.control import apps
from faas.errors import Conflict, Invalid, NotFound, Unavailable
from faas.model import Function, Scale

_APP = "/v1/apps/{app}"
_CHANGE = (NotFound, Invalid, Conflict, Unavailable)


async def list_apps(call: Call) -> AppList:
    """Apps with functions or secrets that the caller may see."""
    members: dict[str, list[Function]] = defaultdict(list)
    for function in call.services.catalog.snapshot.functions.values():
        members[function.app].append(function)
    secrets = _secrets(call)
    names = sorted(app for app in {*members, *secrets} if call.who.sees(app))
    return AppList([app_view(app, members.get(app, []), secrets[app], call.services.runner) for app in names])


async def get_app(call: Call) -> AppDetail:
    """One app with its functions."""
    return _detail(call, call.services.apps.members(call.app))


async def delete_app(call: Call) -> None:
    """Remove its functions, the logs they left on this node, and its secrets."""
    gone = await call.services.apps.remove(call.app)
    _note(call, gone)
    for function in gone:
        await call.services.logs.remove(function.id)


async def scale_app(call: Call) -> AppDetail:
    """Scale every function."""
    body: AppScaleBody = call.body
    if body.by is not None:
        if body.min is not None or body.max is not None:
            raise Invalid('"by" goes without "min" and "max"')
        call.notes.detail = f"by {body.by:g}"
        return _changed(call, await call.services.apps.scale_by(call.app, body.by))
    if body.min is None and body.max is None:
        raise Invalid('the scale needs "min", "max" or "by"', hint=f"DELETE {_APP}/scale clears it")
    bounds = (("min", body.min), ("max", body.max))
    call.notes.detail = ", ".join(f"{key} {bound}" for key, bound in bounds if bound is not None)
    return _changed(call, await call.services.apps.scale(call.app, Scale(min=body.min, max=body.max)))


async def reset_app_scale(call: Call) -> AppDetail:
    """Back to what versions say."""
    return _changed(call, await call.services.apps.scale(call.app, Scale()))


async def pause_app(call: Call) -> AppDetail:
    """Refuse calls to every function."""
    body: PauseBody = call.body
    return _changed(call, await call.services.apps.pause(call.app, pause_reason(call, body)))


async def resume_app(call: Call) -> AppDetail:
    """Take calls again."""
    return _changed(call, await call.services.apps.resume(call.app))


async def rollback_app(call: Call) -> Rolled:
    """Move `live` of every function back, together."""
    return _rolled(call, await call.services.apps.rollback(call.app))


async def rollback_all(call: Call) -> Rolled:
    """Move `live` of everything back, together."""
    return _rolled(call, await call.services.apps.rollback(None))


def _secrets(call: Call) -> Counter[str]:
    return Counter(key.partition("/")[0] for key in call.services.catalog.snapshot.secrets)


def _detail(call: Call, functions: list[Function]) -> AppDetail:
    runner = call.services.runner
    glance = app_view(call.app, functions, _secrets(call)[call.app], runner)
    return AppDetail(glance, [view(function, runner) for function in functions])


def _changed(call: Call, functions: list[Function]) -> AppDetail:
    _note(call, functions)
    return _detail(call, functions)


def _note(call: Call, functions: Iterable[Function]) -> None:
    call.notes.touched.update({function.id: (0, 0) for function in functions})


def _rolled(call: Call, rolled: apps.Rolled) -> Rolled:
    call.notes.touched.update(rolled.moved)
    moved = {str(name): Moved(from_=before, to=after) for name, (before, after) in rolled.moved.items()}
    return Rolled(moved, [str(name) for name in rolled.stayed])


APPS = (
    Route(
        method="GET",
        path="/v1/apps",
        handler=list_apps,
        summary="List apps",
        role="read",
        reply=AppList,
    ),
    Route(
        method="GET",
        path=_APP,
        handler=get_app,
        summary="Show an app with its functions",
        role="read",
        reply=AppDetail,
        errors=(NotFound, Invalid),
    ),
    Route(
        method="DELETE",
        path=_APP,
        handler=delete_app,
        summary="Remove an app: its functions with all versions, and its secrets",
        role="deploy",
        errors=_CHANGE,
    ),
    Route(
        method="PUT",
        path=f"{_APP}/scale",
        handler=scale_app,
        summary="Scale every function of an app by hand",
        role="deploy",
        body=AppScaleBody,
        reply=AppDetail,
        errors=_CHANGE,
    ),
    Route(
        method="DELETE",
        path=f"{_APP}/scale",
        handler=reset_app_scale,
        summary="Clear the scale set by hand of every function of an app",
        role="deploy",
        reply=AppDetail,
        errors=_CHANGE,
    ),
    Route(
        method="POST",
        path=f"{_APP}/pause",
        handler=pause_app,
        summary="Refuse calls to every function of an app; queued work stays",
        role="deploy",
        body=PauseBody,
        reply=AppDetail,
        errors=_CHANGE,
    ),
    Route(
        method="POST",
        path=f"{_APP}/resume",
        handler=resume_app,
        summary="Take calls to every function of an app again",
        role="deploy",
        reply=AppDetail,
        errors=_CHANGE,
    ),
    Route(
        method="POST",
        path=f"{_APP}/rollback",
        handler=rollback_app,
        summary="Move live of every function of an app back, together",
        role="deploy",
        reply=Rolled,
        errors=_CHANGE,
    ),
    Route(
        method="POST",
        path="/v1/rollback",
        handler=rollback_all,
        summary="Move live of every function of every app back, together",
        role="deploy",
        whole=True,
        reply=Rolled,
        errors=_CHANGE,
    ),
)
