"""Bodies in, JSON, NDJSON and problems out. Everything here is bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import msgspec
import structlog
from aiohttp import web

from faas.errors import BadRequest, FaasError, Invalid, RequestTimeout, TooLarge, problem
from faas.ids import new_id
from faas.units import show_size

_log = structlog.get_logger("faas.api")
_T = TypeVar("_T")

JSON = "application/json"
NDJSON = "application/x-ndjson"
PROBLEM = "application/problem+json"
BODY_S = 120.0
"""Longest a client may take to send a body."""
WRITE_S = 60.0
"""Longest a client may leave one piece of a stream unread."""
KEEP_ALIVE_S = 15.0
"""Silence after which a stream carries a blank line: clients and proxies see that it is alive."""

AT_ONCE_S = 0.05
"""How long a stream's head is held back for an error that comes at once."""

_END: Any = object()
_NO_STORE = {"Cache-Control": "no-store"}


def json_reply(value: object, status: int = 200) -> web.Response:
    """A struct as JSON; None: an empty 204."""
    if value is None:
        return web.Response(status=204, headers=_NO_STORE)
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type=JSON, headers=_NO_STORE)


def problem_reply(error: FaasError, *, call_id: str | None = None) -> web.Response:
    """An error as problem+json, with the headers its status asks for."""
    headers = dict(_NO_STORE)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="faas"'
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    body = msgspec.json.encode(problem(error, call_id=call_id))
    return web.Response(body=body, status=error.status, content_type=PROBLEM, headers=headers)


async def read_body(request: web.Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        TooLarge: more than `limit` bytes, before they are taken in.
        RequestTimeout: it did not arrive within BODY_S.
        BadRequest: its framing is broken.
    """
    too_large = TooLarge(f"the body is larger than {show_size(limit)}, the limit of {request.path}")
    if (request.content_length or 0) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError as cause:
        raise RequestTimeout(f"the body did not arrive within {BODY_S:g} s") from cause
    except web.RequestPayloadError as cause:
        raise BadRequest(f"the body is broken: {cause}") from cause
    return bytes(body)


def decode(body: bytes, kind: type[_T]) -> _T:
    """JSON as a struct.

    Raises:
        BadRequest: it is not JSON.
        Invalid: it does not fit `kind`; names the field.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"the body does not fit: {error}", hint="GET /openapi.json describes it") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error


def decode_query(request: web.Request, kind: type[_T]) -> _T:
    """The query as a struct. Raises Invalid naming the parameter."""
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise Invalid(f'the query has "{name[:80]}" twice')
        given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))  # type: ignore[arg-type]
        raise Invalid(f"the query does not fit: {error}", hint=f"it may have: {known}") from error


async def stream_lines(
    request: web.Request, items: AsyncGenerator[Any, None], ending: asyncio.Event
) -> web.StreamResponse:
    """`items` as NDJSON, until they end, the client leaves, or the node stops. Closes `items`.

    Raises what `items` raises at once, while there is still room for a proper answer.
    """
    response = web.StreamResponse(headers={**_NO_STORE, "X-Accel-Buffering": "no"})
    response.content_type = NDJSON
    if request.method == "HEAD":
        await items.aclose()
        return response
    first = asyncio.ensure_future(anext(items, _END))
    ended = asyncio.ensure_future(ending.wait())
    try:
        await asyncio.wait({first}, timeout=AT_ONCE_S)
        if first.done() and first.exception() is not None:
            return first.result()  # type: ignore[no-any-return]  # raises
        await response.prepare(request)
        await _pump(response, items, first, ended)
        await response.write_eof()
    except (ConnectionError, TimeoutError):
        pass  # The client has left, or reads no more: nobody is there to be told.
    except Exception:
        if not response.prepared:
            raise
        # Too late for a problem document. A connection cut short tells the client that lines are missing.
        _log.exception("a stream broke", path=request.path, reference=new_id("err"))
        _abort(request)
    finally:
        await _cancel(first, ended)
        await items.aclose()
    return response


async def _pump(
    response: web.StreamResponse,
    items: AsyncGenerator[Any, None],
    upcoming: asyncio.Future[Any],
    ended: asyncio.Future[Any],
) -> None:
    try:
        while True:
            await asyncio.wait({upcoming, ended}, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            line = b""
            if upcoming.done():
                item = upcoming.result()
                if item is _END:
                    return
                line = msgspec.json.encode(item)
                upcoming = asyncio.ensure_future(anext(items, _END))
            elif ended.done():
                return
            async with asyncio.timeout(WRITE_S):
                await response.write(line + b"\n")
    finally:
        await _cancel(upcoming)


async def _cancel(*futures: asyncio.Future[Any]) -> None:
    for future in futures:
        future.cancel()
    await asyncio.wait(futures)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def peer(request: web.Request) -> str:
    """The client's address, for limits; clients on a unix socket share one."""
    return request.remote or "local"


LISTENER = web.RequestKey("listener", str)
"""Host of the listener a request came in by, where that is another than the socket's."""


def socket_host(request: web.Request) -> str:
    """Host of the listener the request came in by; empty for a unix socket."""
    if (host := request.get(LISTENER)) is not None:
        return str(host)
    name: Any = request.transport.get_extra_info("sockname") if request.transport else None
    return str(name[0]) if isinstance(name, tuple) and name else ""
