"""Handlers: bundles, pushes, secrets, logs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from aiohttp import web
from msgspec import structs

from faas.api.functions import check_filter
from faas.api.http import read_body, stream_lines
from faas.api.schemas import AppQuery, LogQuery, SecretBody, SecretList
from faas.api.table import Call
from faas.control.code import UPLOAD_MAX
from faas.control.secrets import SecretView
from faas.errors import NotFound
from faas.model import LogLine, Push, PushEvent, Version
from faas.names import FunctionName, parse_function


async def has_bundle(call: Call) -> None:
    """204 when it is stored."""
    sha = call.path["sha"]
    if not await call.services.code.has(sha):
        raise NotFound(f"the bundle {sha[:12]} is not stored", hint=f"upload it with PUT /v1/bundles/{sha}")


async def put_bundle(call: Call) -> None:
    """Take an archive, if it is what its name says."""
    call.notes.detail = call.path["sha"][:12]
    data = await read_body(call.request, UPLOAD_MAX)
    await call.services.code.store(call.path["sha"], data)


async def push(call: Call) -> web.StreamResponse:
    """Push, and report as it goes."""
    wanted: Push = call.body
    call.notes.detail = f"alias {wanted.alias}"
    call.notes.outcome = "cancelled"
    return await stream_lines(call.request, _noted(call, wanted), call.ending)


async def _noted(call: Call, wanted: Push) -> AsyncGenerator[PushEvent, None]:
    """The push's events; what has gone live and how it ended is noted for the audit trail."""
    notes, app = call.notes, call.app
    notes.touched.update({FunctionName(app, item.name): (0, 0) for item in wanted.functions})
    before = {name: live.number for name in notes.touched if (live := _live(call, name))}
    async with aclosing(call.services.pushes.run(app, wanted, call.who.name)) as events:
        async for event in events:
            if event.phase in ("live", "preview", "unchanged"):
                name = parse_function(event.function)
                notes.touched[name] = (before.get(name, 0), event.version)
            elif event.phase == "done":
                notes.outcome = "ok"
            elif event.phase == "failed":
                notes.outcome = str((event.error or {}).get("code", "internal"))
                notes.detail += f": {event.message}"
            yield event


def _live(call: Call, name: FunctionName) -> Version | None:
    function = call.services.catalog.peek(name)
    return function.live() if function else None


async def list_secrets(call: Call) -> SecretList:
    """Names, never values."""
    wanted: AppQuery = call.query
    check_filter(call.who, wanted.app)
    views = call.services.secrets.list(wanted.app or None)
    return SecretList([secret for secret in views if call.who.sees(secret.app)])


async def set_secret(call: Call) -> SecretView:
    """Create or replace."""
    call.notes.detail = call.path["secret"]
    body: SecretBody = call.body
    return await call.services.secrets.set(call.app, call.path["secret"], body.value)


async def delete_secret(call: Call) -> None:
    """Remove."""
    call.notes.detail = call.path["secret"]
    await call.services.secrets.remove(call.app, call.path["secret"])


async def read_logs(call: Call) -> web.StreamResponse:
    """Stored lines, oldest first; with `follow` new ones as they come."""
    call.services.catalog.get(call.function)
    wanted: LogQuery = call.query
    read = _followed if wanted.follow else _stored
    return await stream_lines(call.request, read(call, wanted), call.ending)


async def _stored(call: Call, wanted: LogQuery) -> AsyncGenerator[LogLine, None]:
    for line in await call.services.logs.read(call.function, **_filter(wanted)):
        yield line


async def _followed(call: Call, wanted: LogQuery) -> AsyncGenerator[LogLine, None]:
    lines = cast("AsyncGenerator[LogLine, None]", call.services.logs.follow(call.function, **_filter(wanted)))
    async with aclosing(lines):
        async for line in lines:
            yield line


def _filter(wanted: LogQuery) -> dict[str, Any]:
    values = structs.asdict(wanted)
    del values["follow"]
    return values
