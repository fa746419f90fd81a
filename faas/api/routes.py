"""The API, one row a route. The server serves these rows and /openapi.json is written from them."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST

from faas.api import deploy, functions, system
from faas.api.access import ACCESS
from faas.api.apps import APPS
from faas.api.invocations import INVOCATIONS
from faas.api.openapi import openapi
from faas.api.rollouts import ROLLOUTS
from faas.api.schemas import (
    AppQuery,
    Detail,
    DiffQuery,
    FunctionList,
    Health,
    Lock,
    LockQuery,
    LogQuery,
    Moved,
    NodeList,
    PauseBody,
    Ready,
    RollbackBody,
    RuntimeList,
    ScaleBody,
    SecretBody,
    SecretList,
    Status,
    VersionList,
    WeightsBody,
)
from faas.api.table import Route
from faas.control.code import UPLOAD_MAX
from faas.control.diff import Diff
from faas.control.secrets import SecretView
from faas.errors import Conflict, Invalid, NotFound, TooLarge, Unavailable
from faas.model import LogLine, Push, PushEvent

_FUNCTION = "/v1/functions/{name}"
_CHANGE = (NotFound, Invalid, Conflict, Unavailable)
PUSH_MAX = 8 * 1024 * 1024
"""Largest push in bytes: a thousand functions with their settings."""

_SYSTEM = (
    Route(
        method="GET",
        path="/healthz",
        handler=system.healthz,
        summary="The process is alive",
        role=None,
        reply=Health,
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=system.readyz,
        summary="This node should get calls",
        role=None,
        reply=Ready,
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=system.metrics,
        summary="Metrics of this node for Prometheus",
        role="read",
        open_on_loopback=True,
        whole=True,
        text=CONTENT_TYPE_LATEST.partition(";")[0],
    ),
    Route(
        method="GET",
        path="/v1/status",
        handler=system.status,
        summary="This node, its Redis and its instances",
        role="read",
        reply=Status,
    ),
    Route(
        method="GET",
        path="/v1/nodes",
        handler=system.list_nodes,
        summary="Nodes of the cluster",
        role="read",
        reply=NodeList,
        errors=(Unavailable,),
    ),
    Route(
        method="GET",
        path="/v1/runtimes",
        handler=system.list_runtimes,
        summary="Runtimes this node can start",
        role="read",
        reply=RuntimeList,
        errors=(Unavailable,),
    ),
)

_FUNCTIONS = (
    Route(
        method="GET",
        path="/v1/functions",
        handler=functions.list_functions,
        summary="List functions",
        role="read",
        query=AppQuery,
        reply=FunctionList,
        errors=(Invalid,),
    ),
    Route(
        method="GET",
        path=_FUNCTION,
        handler=functions.get_function,
        summary="Show a function",
        role="read",
        reply=Detail,
        errors=(NotFound, Invalid),
    ),
    Route(
        method="DELETE",
        path=_FUNCTION,
        handler=functions.delete_function,
        summary="Remove a function with its versions and aliases",
        role="deploy",
        errors=_CHANGE,
    ),
    Route(
        method="PUT",
        path=f"{_FUNCTION}/scale",
        handler=functions.set_scale,
        summary="Set the scale by hand",
        role="deploy",
        body=ScaleBody,
        reply=Detail,
        errors=_CHANGE,
    ),
    Route(
        method="DELETE",
        path=f"{_FUNCTION}/scale",
        handler=functions.reset_scale,
        summary="Clear the scale set by hand",
        role="deploy",
        reply=Detail,
        errors=_CHANGE,
    ),
    Route(
        method="GET",
        path=f"{_FUNCTION}/versions",
        handler=functions.list_versions,
        summary="List a function's versions, newest first",
        role="read",
        reply=VersionList,
        errors=(NotFound, Invalid, Unavailable),
    ),
    Route(
        method="GET",
        path=f"{_FUNCTION}/diff",
        handler=functions.diff,
        summary="Compare two versions: settings, files, lines",
        role="read",
        query=DiffQuery,
        reply=Diff,
        errors=(NotFound, Invalid, Conflict, Unavailable),
    ),
    Route(
        method="GET",
        path=f"{_FUNCTION}/lock",
        handler=functions.lock,
        summary="The packages a version was installed with",
        role="read",
        query=LockQuery,
        reply=Lock,
        errors=(NotFound, Invalid, Unavailable),
    ),
    Route(
        method="POST",
        path=f"{_FUNCTION}/pause",
        handler=functions.pause,
        summary="Refuse calls with 503 and a reason; queued work stays",
        role="deploy",
        body=PauseBody,
        reply=Detail,
        errors=_CHANGE,
    ),
    Route(
        method="POST",
        path=f"{_FUNCTION}/resume",
        handler=functions.resume,
        summary="Take calls again",
        role="deploy",
        reply=Detail,
        errors=_CHANGE,
    ),
    Route(
        method="POST",
        path=f"{_FUNCTION}/rollback",
        handler=functions.rollback,
        summary="Move live back to the version that was live before, or to a given one",
        role="deploy",
        body=RollbackBody,
        reply=Moved,
        errors=_CHANGE,
    ),
    Route(
        method="PUT",
        path=f"{_FUNCTION}/aliases/{{alias}}",
        handler=functions.set_alias,
        summary="Point an alias at one version or several",
        role="deploy",
        body=WeightsBody,
        reply=Detail,
        errors=_CHANGE,
    ),
    Route(
        method="DELETE",
        path=f"{_FUNCTION}/aliases/{{alias}}",
        handler=functions.delete_alias,
        summary="Remove an alias other than live",
        role="deploy",
        reply=Detail,
        errors=_CHANGE,
    ),
    Route(
        method="GET",
        path=f"{_FUNCTION}/logs",
        handler=deploy.read_logs,
        summary="Read or follow a function's log",
        role="read",
        query=LogQuery,
        reply=LogLine,
        stream=True,
        errors=(NotFound, Invalid),
    ),
)

_DEPLOY = (
    Route(
        method="HEAD",
        path="/v1/bundles/{sha}",
        handler=deploy.has_bundle,
        summary="Is a bundle stored?",
        role="deploy",
        errors=(NotFound, Invalid, Unavailable),
    ),
    Route(
        method="PUT",
        path="/v1/bundles/{sha}",
        handler=deploy.put_bundle,
        summary="Store a bundle under the hash of its content",
        role="deploy",
        raw=True,
        body_max=UPLOAD_MAX,
        errors=(Invalid, TooLarge, Unavailable),
    ),
    Route(
        method="POST",
        path="/v1/apps/{app}/push",
        handler=deploy.push,
        summary="Push functions that go live together; the last event is done or failed",
        role="deploy",
        body=Push,
        body_max=PUSH_MAX,
        reply=PushEvent,
        stream=True,
        errors=(Invalid, TooLarge),
    ),
    Route(
        method="GET",
        path="/v1/secrets",
        handler=deploy.list_secrets,
        summary="List the names of secrets",
        role="read",
        query=AppQuery,
        reply=SecretList,
        errors=(Invalid,),
    ),
    Route(
        method="PUT",
        path="/v1/secrets/{app}/{secret}",
        handler=deploy.set_secret,
        summary="Set a secret",
        role="deploy",
        body=SecretBody,
        body_max=512 * 1024,
        reply=SecretView,
        errors=(Invalid, TooLarge, Unavailable),
    ),
    Route(
        method="DELETE",
        path="/v1/secrets/{app}/{secret}",
        handler=deploy.delete_secret,
        summary="Remove a secret",
        role="deploy",
        errors=_CHANGE,
    ),
)

_ROWS = _SYSTEM + _FUNCTIONS + ROLLOUTS + APPS + _DEPLOY + INVOCATIONS + ACCESS


def all_routes(version: str) -> tuple[Route, ...]:
    """Every row, the description of them all included. `version`: of the node."""
    description = openapi(_ROWS, version)
    return (*_ROWS, description)
