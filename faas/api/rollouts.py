"""Rollouts, quotas of apps, and nodes in and out of service: handlers, what travels, and their rows."""

from __future__ import annotations

from typing import Annotated

import msgspec

from faas.api.table import Call, Route
from faas.control.drains import GRACE_MAX_S, GRACE_S
from faas.control.rollout import EVERY_S, STEPS, Event, Rollout, State, Terms
from faas.errors import Conflict, Invalid, NoRoom, NotFound, StartFailed, Unavailable
from faas.model import NodeInfo
from faas.policy.quota import Quota
from faas.policy.rollout import Gates, Seen

_ROLLOUT = "/v1/functions/{name}/rollout"
_QUOTA = "/v1/apps/{app}/quota"
_NODE = "/v1/nodes/{node}"
_CHANGE = (NotFound, Invalid, Conflict, Unavailable)
_DEFAULT = Gates()


class RolloutBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a rollout is to go. A gate that is null is open."""

    to: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """The version that comes in; null: the one of the alias `canary`, else the newest."""
    steps: tuple[int, ...] = STEPS
    """Percent of plain calls, rising, the last one 100."""
    every_s: float = EVERY_S
    """Seconds a step lasts at least."""
    max_errors: float | None = _DEFAULT.max_errors
    """Most by which its share of failed calls may exceed the live version's; 0.01 is one in a hundred."""
    max_p95: float | None = _DEFAULT.max_p95
    """Most by which its 95th percentile may exceed the live version's, as a share of it."""
    min_sample: int = _DEFAULT.min_sample
    """Calls of each version that a step needs."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What all nodes saw of one version in the present step."""

    version: int
    calls: int
    errors: int
    p95_ms: float | None


class RolloutView(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout as it is. `measured` is empty when it is over."""

    name: str
    version: int
    live: int
    state: State
    share: int
    """Percent of plain calls the new version gets."""
    step: int
    """Place of that share in `steps`, from 0."""
    steps: tuple[int, ...]
    every_s: float
    max_errors: float | None
    max_p95: float | None
    min_sample: int
    reason: str
    by: str
    started_at: float
    changed_at: float
    history: tuple[Event, ...]
    measured: list[Measured]


class RolloutStatus(msgspec.Struct, frozen=True):
    """The present rollout, or the last one; null: there never was one."""

    rollout: RolloutView | None


class QuotaBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of an app; null: none."""

    instances: int | None = None
    memory: int | None = None
    queue: int | None = None
    rps: float | None = None


class QuotaView(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of an app; null: none."""

    app: str
    instances: int | None
    """On each node."""
    memory: int | None
    """Bytes, on each node."""
    queue: int | None
    """Unfinished background calls in the cluster."""
    rps: float | None
    """Calls a second in the cluster, about."""


class DrainBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a node leaves."""

    grace_s: Annotated[float, msgspec.Meta(ge=0, le=GRACE_MAX_S)] = GRACE_S
    """Seconds it still takes calls."""


async def get_rollout(call: Call) -> RolloutStatus:
    """The present or last rollout."""
    found = call.services.releases.rollouts.find(call.function)
    return RolloutStatus(None if found is None else await _view(call, found))


async def start_rollout(call: Call) -> RolloutView:
    """Begin one."""
    body: RolloutBody = call.body
    gates = Gates(max_errors=body.max_errors, max_p95=body.max_p95, min_sample=body.min_sample)
    terms = Terms(body.steps, body.every_s, gates)
    begun = await call.services.releases.rollouts.start(call.function, body.to, terms, call.who.name)
    call.notes.touched[call.function] = (begun.live, begun.version)
    call.notes.detail = f"steps {','.join(map(str, begun.steps))} every {begun.every_s:g} s"
    return await _view(call, begun)


async def pause_rollout(call: Call) -> RolloutView:
    """Stay at the present share."""
    return await _view(call, await call.services.releases.rollouts.pause(call.function, f"by {call.who.name}"))


async def resume_rollout(call: Call) -> RolloutView:
    """Go on."""
    return await _view(call, await call.services.releases.rollouts.resume(call.function, f"by {call.who.name}"))


async def abort_rollout(call: Call) -> RolloutView:
    """Give every call back to the live version."""
    ended = await call.services.releases.rollouts.abort(call.function, f"by {call.who.name}")
    call.notes.touched[call.function] = (ended.version, ended.live)
    return await _view(call, ended)


async def get_quota(call: Call) -> QuotaView:
    """Limits of an app."""
    return _quota(call.app, call.services.releases.quotas.of(call.app))


async def set_quota(call: Call) -> QuotaView:
    """Replace them."""
    body: QuotaBody = call.body
    quota = Quota(instances=body.instances, memory=body.memory, queue=body.queue, rps=body.rps)
    call.notes.detail = ", ".join(f"{key} {value:g}" for key, value in msgspec.structs.asdict(quota).items() if value)
    return _quota(call.app, await call.services.releases.quotas.set(call.app, quota))


async def reset_quota(call: Call) -> QuotaView:
    """No limits."""
    return _quota(call.app, await call.services.releases.quotas.set(call.app, Quota()))


async def drain_node(call: Call) -> NodeInfo:
    """Take a node out of service."""
    body: DrainBody = call.body
    call.notes.detail = f"{call.path['node']}, grace {body.grace_s:g} s"
    return await call.services.releases.drains.drain(call.path["node"], body.grace_s, call.who.name)


async def undrain_node(call: Call) -> NodeInfo:
    """Put it back into service."""
    call.notes.detail = call.path["node"]
    return await call.services.releases.drains.undrain(call.path["node"])


async def _view(call: Call, rollout: Rollout) -> RolloutView:
    measured = []
    if rollout.is_open:
        seen = await call.services.releases.rollouts.seen(call.function, rollout)
        measured = [_measured(*pair) for pair in zip((rollout.live, rollout.version), seen, strict=True)]
    gates = rollout.gates
    return RolloutView(
        name=str(call.function),
        version=rollout.version,
        live=rollout.live,
        state=rollout.state,
        share=rollout.share,
        step=rollout.step,
        steps=rollout.steps,
        every_s=rollout.every_s,
        max_errors=gates.max_errors,
        max_p95=gates.max_p95,
        min_sample=gates.min_sample,
        reason=rollout.reason,
        by=rollout.by,
        started_at=rollout.started_at,
        changed_at=rollout.changed_at,
        history=rollout.history,
        measured=measured,
    )


def _measured(version: int, seen: Seen) -> Measured:
    p95 = seen.quantile(0.95)
    p95_ms = None if p95 is None else round(p95 * 1000, 2)
    return Measured(version=version, calls=seen.calls, errors=seen.errors, p95_ms=p95_ms)


def _quota(app: str, quota: Quota) -> QuotaView:
    return QuotaView(app=app, **msgspec.structs.asdict(quota))


ROLLOUTS = (
    Route(
        method="GET",
        path=_ROLLOUT,
        handler=get_rollout,
        summary="The present or last rollout of a function",
        role="read",
        reply=RolloutStatus,
        errors=(NotFound, Invalid, Unavailable),
    ),
    Route(
        method="POST",
        path=_ROLLOUT,
        handler=start_rollout,
        summary="Give a new version the plain calls step by step, and take them back when it is worse",
        role="deploy",
        body=RolloutBody,
        reply=RolloutView,
        errors=(*_CHANGE, StartFailed, NoRoom),
    ),
    Route(
        method="POST",
        path=f"{_ROLLOUT}/pause",
        handler=pause_rollout,
        summary="Keep a rollout at its present share",
        role="deploy",
        reply=RolloutView,
        errors=_CHANGE,
    ),
    Route(
        method="POST",
        path=f"{_ROLLOUT}/resume",
        handler=resume_rollout,
        summary="Let a paused rollout go on",
        role="deploy",
        reply=RolloutView,
        errors=_CHANGE,
    ),
    Route(
        method="POST",
        path=f"{_ROLLOUT}/abort",
        handler=abort_rollout,
        summary="End a rollout: every call goes to the live version again",
        role="deploy",
        reply=RolloutView,
        errors=_CHANGE,
    ),
    Route(
        method="GET",
        path=_QUOTA,
        handler=get_quota,
        summary="Limits of an app",
        role="read",
        reply=QuotaView,
        errors=(Invalid,),
    ),
    Route(
        method="PUT",
        path=_QUOTA,
        handler=set_quota,
        summary="Set the limits of an app",
        role="admin",
        whole=True,  # a limit that its holder can lift is none
        body=QuotaBody,
        reply=QuotaView,
        errors=(Invalid, Unavailable),
    ),
    Route(
        method="DELETE",
        path=_QUOTA,
        handler=reset_quota,
        summary="Clear the limits of an app",
        role="admin",
        whole=True,
        reply=QuotaView,
        errors=(Invalid, Unavailable),
    ),
    Route(
        method="POST",
        path=f"{_NODE}/drain",
        handler=drain_node,
        summary="Take a node out of service: it finishes what it has",
        role="admin",
        whole=True,
        body=DrainBody,
        reply=NodeInfo,
        errors=_CHANGE,
    ),
    Route(
        method="POST",
        path=f"{_NODE}/undrain",
        handler=undrain_node,
        summary="Put a node back into service",
        role="admin",
        whole=True,
        reply=NodeInfo,
        errors=_CHANGE,
    ),
)
