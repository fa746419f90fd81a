"""Background calls and dead letters: handlers and their rows."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import cast

import msgspec
from aiohttp import web

from faas.api.functions import check_filter
from faas.api.http import json_reply
from faas.api.schemas import (
    Cancelled,
    DeadLetter,
    DeadQuery,
    InputView,
    InvocationQuery,
    RedriveBody,
    WaitQuery,
)
from faas.api.table import Call, Route
from faas.control.invocations import STATES, Detail, Invocation, Page, Swept, view
from faas.errors import Conflict, Invalid, NotFound, TooManyRequests, Unavailable, did_you_mean
from faas.names import parse_function, parse_key
from faas.store.queue.model import Info, Input, State

_BOX = "sandbox allow-scripts allow-forms"
"""What a function made must not act with the rights of the host that serves this API."""
_SKIPPED = frozenset(
    ("set-cookie", "content-security-policy", "content-length", "transfer-encoding", "connection", "server", "date")
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


async def list_invocations(call: Call) -> Page:
    """Newest first, of functions the caller sees."""
    wanted: InvocationQuery = call.query
    return await call.services.jobs.invocations.list_(
        _functions(call, wanted),
        _states(wanted.state),
        since_ms=wanted.since_ms,
        limit=wanted.limit,
        cursor=wanted.cursor,
    )


async def get_invocation(call: Call) -> Detail:
    """What became of it; with `wait`, once it has ended."""
    info = await _info(call, call.query.wait)
    return await call.services.jobs.invocations.detail(info)


async def get_result(call: Call) -> web.Response:
    """What its last attempt answered, as it was answered; 202 before its end."""
    info = await _info(call, call.query.wait)
    result = await call.services.jobs.invocations.result(info.id)
    ours = {"X-Call-Id": info.id, "X-Faas-State": info.state, "Content-Security-Policy": _BOX}
    if not info.ended_ms:
        response = json_reply(view(info), 202)
        response.headers.update({**ours, "Retry-After": "1"})
        return response
    if result is None:
        return web.Response(status=204, headers=ours)
    if result.error is not None:
        body = msgspec.json.encode(result.error)
        return web.Response(status=result.status, body=body, headers=ours, content_type="application/problem+json")
    response = web.Response(status=result.status, body=result.body)
    for name, value in _headers(result.headers):
        if name.lower() == "content-type":
            response.headers["Content-Type"] = value
        else:
            response.headers.add(name, value)
    response.headers.update(ours)
    return response


async def cancel_invocation(call: Call) -> Cancelled:
    """End it: at once when it waits; when it runs its handler is told, and killed if it does not listen."""
    info = await _info(call)
    said = await call.services.jobs.invocations.cancel(info.id)
    return Cancelled(info.id, "asked" if said == "asked" else "cancelled")


async def retry_invocation(call: Call) -> Invocation:
    """Run it again with all its attempts before it."""
    info = await _info(call)
    await call.services.jobs.invocations.again(info.id)
    return view(await call.services.jobs.info(info.id))


async def list_dead(call: Call) -> Page:
    """Dead letters of one function, newest first."""
    wanted: DeadQuery = call.query
    page = await call.services.jobs.invocations.list_(
        [call.function.key], ["dead"], since_ms=0, limit=wanted.limit, cursor=wanted.cursor
    )
    if not page.invocations:
        call.services.catalog.get(call.function)  # a function that was removed may have left some
    return page


async def get_dead(call: Call) -> DeadLetter:
    """One dead letter with its input and attempts."""
    info = await _dead(call)
    letters = call.services.jobs.invocations
    detail = await letters.detail(info)
    given = await letters.input(info.id)
    return DeadLetter(
        invocation=detail.invocation,
        tries=detail.tries,
        error=detail.error,
        input=None if given is None else _shown(given),
    )


async def redrive_dead(call: Call) -> Swept:
    """Run dead letters again: some or all."""
    body: RedriveBody = call.body
    call.notes.detail = "all" if body.ids is None else f"{len(body.ids)} by id"
    return await call.services.jobs.invocations.redrive(call.function, body.ids)


async def purge_dead(call: Call) -> Swept:
    """Forget all dead letters of a function."""
    return await call.services.jobs.invocations.purge(call.function, None)


async def purge_one_dead(call: Call) -> Swept:
    """Forget one dead letter."""
    info = await _dead(call)
    call.notes.detail = info.id
    return await call.services.jobs.invocations.purge(call.function, [info.id])


async def _info(call: Call, wait_s: float = 0.0) -> Info:
    """The call named in the path. Raises NotFound, also for one of an app the caller does not see."""
    id = call.path["invocation"]
    jobs = call.services.jobs
    info = await jobs.info(id)
    if not _sees(call, parse_key(info.function).app):
        raise NotFound(f"there is no invocation {id}")
    return await jobs.info(id, wait_s) if wait_s and not info.ended_ms else info


def _sees(call: Call, app: str) -> bool:
    return not call.who.roles or call.who.sees(app)  # without roles: anonymous on a loopback listener


async def _dead(call: Call) -> Info:
    info = await call.services.jobs.info(call.path["invocation"])
    if info.state != "dead" or info.function != call.function.key:
        raise NotFound(f"{info.id} is not a dead letter of {call.function}", hint=f"faas dlq ls {call.function}")
    return info


def _functions(call: Call, wanted: InvocationQuery) -> list[str]:
    check_filter(call.who, wanted.app)
    if wanted.function:
        name = parse_function(wanted.function)
        check_filter(call.who, name.app)
        return [name.key]  # also of one that was removed: its calls are still there
    functions = call.services.catalog.snapshot.functions
    return [
        key for key, function in functions.items() if call.who.sees(function.app) and wanted.app in ("", function.app)
    ]


def _states(text: str) -> Sequence[State]:
    given = [word.strip() for word in text.split(",") if word.strip()]
    for word in given:
        if word not in STATES:
            hint = did_you_mean(word, STATES) or f"States: {', '.join(STATES)}."
            raise Invalid(f'there is no state "{word[:40]}"', hint=hint)
    return cast("list[State]", given) or STATES


def _shown(given: Input) -> InputView:
    try:
        body, encoded = given.body.decode(), ""
    except UnicodeDecodeError:
        body, encoded = None, base64.b64encode(given.body).decode()
    return InputView(
        target=given.target,
        kind=given.kind,
        method=given.method,
        path=given.path,
        query=given.query,
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in given.headers],
        body=body,
        base64=encoded,
    )


def _headers(pairs: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """A kept result's own headers that may go out from here."""
    texts = [(name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in pairs]
    return [
        (name, value)
        for name, value in texts
        if name.lower() not in _SKIPPED and _NAME.fullmatch(name) and not _BAD_VALUE.search(value)
    ]


_ONE = "/v1/invocations/{invocation}"
_DLQ = "/v1/functions/{name}/dlq"
_ASKED = (NotFound, Invalid, Unavailable)

INVOCATIONS = (
    Route(
        method="GET",
        path="/v1/invocations",
        handler=list_invocations,
        summary="List background calls, newest first",
        role="read",
        query=InvocationQuery,
        reply=Page,
        errors=(Invalid, Unavailable),
    ),
    Route(
        method="GET",
        path=_ONE,
        handler=get_invocation,
        summary="Show a background call; wait for its end",
        role="read",
        also="invoke",
        open_on_loopback=True,
        query=WaitQuery,
        reply=Detail,
        errors=_ASKED,
    ),
    Route(
        method="GET",
        path=f"{_ONE}/result",
        handler=get_result,
        summary="The reply of a background call as its function gave it; 202 before its end",
        role="read",
        also="invoke",
        open_on_loopback=True,
        query=WaitQuery,
        text="application/octet-stream",
        errors=_ASKED,
    ),
    Route(
        method="POST",
        path=f"{_ONE}/cancel",
        handler=cancel_invocation,
        summary="Cancel a background call that waits or runs",
        role="invoke",
        reply=Cancelled,
        errors=(*_ASKED, Conflict),
    ),
    Route(
        method="POST",
        path=f"{_ONE}/retry",
        handler=retry_invocation,
        summary="Run a dead, failed or cancelled background call again",
        role="invoke",
        reply=Invocation,
        errors=(*_ASKED, Conflict, TooManyRequests),
    ),
    Route(
        method="GET",
        path=_DLQ,
        handler=list_dead,
        summary="List a function's dead letters, newest first",
        role="read",
        query=DeadQuery,
        reply=Page,
        errors=_ASKED,
    ),
    Route(
        method="GET",
        path=f"{_DLQ}/{{invocation}}",
        handler=get_dead,
        summary="Show a dead letter with its input and attempts",
        role="read",
        reply=DeadLetter,
        errors=_ASKED,
    ),
    Route(
        method="POST",
        path=f"{_DLQ}/redrive",
        handler=redrive_dead,
        summary="Run dead letters again: some by id, or all",
        role="invoke",
        body=RedriveBody,
        reply=Swept,
        errors=_ASKED,
    ),
    Route(
        method="DELETE",
        path=_DLQ,
        handler=purge_dead,
        summary="Forget all dead letters of a function",
        role="deploy",
        reply=Swept,
        errors=_ASKED,
    ),
    Route(
        method="DELETE",
        path=f"{_DLQ}/{{invocation}}",
        handler=purge_one_dead,
        summary="Forget a dead letter",
        role="deploy",
        reply=Swept,
        errors=_ASKED,
    ),
)
