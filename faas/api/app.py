"""The control API as an aiohttp application: the table's rows behind one guard.

request -> guard -> who? -> which path? -> may they? -> body, query -> handler -> JSON
             ^                                                            |
             +--------------- every error as problem+json <---------------+
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, NoReturn

import structlog
from aiohttp import web

from faas.api.checks import refuse_unknown_settings
from faas.api.http import decode, decode_query, json_reply, peer, problem_reply, read_body, socket_host
from faas.api.recent import Recent
from faas.api.routes import all_routes
from faas.api.services import Services
from faas.api.table import PARAMETERS, Call, Route
from faas.control.tokens import Principal, bearer
from faas.control.whole import to_its_end
from faas.errors import (
    BadRequest,
    CallerError,
    FaasError,
    Forbidden,
    Internal,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    Unauthorized,
    did_you_mean,
)
from faas.ids import new_id
from faas.model import Push
from faas.names import FunctionName

_log = structlog.get_logger("faas.api")
OUTSIDE = "X-Faas-Outside"
"""Set by the gateway on what came in by a listener for calls; it takes rights and gives none."""
_ANYONE = Principal(name="anonymous", roles=frozenset())

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_api(services: Services) -> web.Application:
    """The application. Shut it down to end its streams."""
    routes = all_routes(services.version)
    recent_redis, recent_driver = Recent(services.probes.redis), Recent(services.probes.driver)
    services = replace(services, probes=replace(services.probes, redis=recent_redis, driver=recent_driver))
    ending = asyncio.Event()
    app = web.Application(middlewares=[_guard(routes)])
    heads = {row.path for row in routes if row.method == "HEAD"}
    for row in routes:
        handler = _serve(row, services, ending)
        app.router.add_route(row.method, row.path, handler)
        if row.method == "GET" and row.path not in heads:
            app.router.add_route("HEAD", row.path, handler)

    async def end(_: web.Application) -> None:
        ending.set()

    async def close(_: web.Application) -> None:
        await recent_redis.close()
        await recent_driver.close()

    app.on_shutdown.append(end)
    app.on_cleanup.append(close)
    return app


def _serve(row: Route, services: Services, ending: asyncio.Event) -> _Handler:
    async def serve(request: web.Request) -> web.StreamResponse:
        who = _authenticate(row, services, request)
        path = {name: PARAMETERS[name].parse(text) for name, text in request.match_info.items()}
        _authorise(row, who, path)
        body = None if row.body is None else _body(row.body, await read_body(request, row.body_max))
        call = Call(
            services=services,
            request=request,
            who=who,
            path=path,
            query=None if row.query is None else decode_query(request, row.query),
            body=body,
            ending=ending,
        )
        if not row.changes:
            answer = await row.handler(call)
        elif row.stream:
            answer = await _recorded(row, call)
        else:
            # A client that leaves cancels its handler; a change that has begun is finished all the same.
            answer = await to_its_end(_recorded(row, call))
        return answer if isinstance(answer, web.StreamResponse) else json_reply(answer)

    return serve


async def _recorded(row: Route, call: Call) -> Any:
    """Run a handler that changes something, and leave an entry in the audit trail, however it ends."""
    notes = call.notes
    if (name := call.path.get("name")) is not None:
        notes.touched[name] = (0, 0)
    try:
        return await row.handler(call)
    except FaasError as error:
        notes.outcome = error.code
        raise
    except asyncio.CancelledError:
        # A client may leave as soon as a stream has told it how things ended; the stream has noted that.
        notes.outcome = notes.outcome if row.stream else "cancelled"
        raise
    except Exception:
        notes.outcome = "internal"
        raise
    finally:
        await to_its_end(
            call.services.audit.record(
                call.who,
                peer(call.request),
                row.verb,
                notes.outcome,
                app=call.path.get("app", ""),
                touched=notes.touched,
                detail=notes.detail,
            )
        )


def _authenticate(row: Route, services: Services, request: web.Request) -> Principal:
    """Who is asking. Raises Unauthorized, TooManyRequests."""
    if row.role is None or (row.open_on_loopback and _is_near(request)):
        return _ANYONE
    token = bearer(request.headers)
    who = services.guesses.identify(services.tokens, token, peer(request), time.monotonic())
    if not token:
        raise Unauthorized(
            "this needs a token",
            hint="send `Authorization: Bearer TOKEN`; the first one is in the node's DATA_DIR/admin-token",
        )
    if who is None:
        raise Unauthorized("the token is unknown or has expired", hint="run: faas login URL")
    return who


def _authorise(row: Route, who: Principal, path: Mapping[str, Any]) -> None:
    """Raises Forbidden."""
    if row.role is None or who is _ANYONE:
        return
    if row.whole and who.apps is not None:
        _deny(row, who, f"{who.name} is limited to {_listed(who.apps)}, and this is about all apps")
    name = path.get("name")
    app = name.app if isinstance(name, FunctionName) else path.get("app")
    if not who.may(row.role, app) and not (row.also and who.may(row.also, app)):
        where = f" in app {app}" if app else ""
        _deny(row, who, f"{who.name} does not have the role {row.role}{where}")


def _deny(row: Route, who: Principal, message: str) -> NoReturn:
    # Into the node's log and not into the audit trail: there, whoever may do nothing could push out the rest.
    _log.warning("a token was refused", by=who.name, verb=row.verb, reason=message)
    raise Forbidden(message, hint="ask an admin for a token that may")


def _listed(apps: frozenset[str]) -> str:
    return "app " + ", ".join(sorted(apps)[:5])


def _body(kind: type, body: bytes) -> Any:
    if kind is Push:
        refuse_unknown_settings(body)
    return decode(body, kind)


def _is_near(request: web.Request) -> bool:
    """It came from this machine, by a listener that is the operator's."""
    near = _is_loopback(socket_host(request)) and _is_loopback(request.remote or "")
    return near and OUTSIDE not in request.headers


def _is_loopback(host: str) -> bool:
    """True for a listener that only this machine reaches, a unix socket included."""
    try:
        return not host or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _guard(routes: tuple[Route, ...]) -> Any:
    paths = sorted({row.path for row in routes})

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except FaasError as error:
            return problem_reply(error)
        except web.HTTPException as error:
            return _translated(request, error, paths)
        except Exception:
            reference = new_id("err")
            _log.exception(
                "the control API failed on a request; its caller got a 500",
                method=request.method,
                path=request.path,
                reference=reference,
            )
            broken = Internal(
                "something went wrong inside the platform", hint=f"the node's log has the cause under {reference}"
            )
            return problem_reply(broken, call_id=reference)

    return guard


def _translated(request: web.Request, error: web.HTTPException, paths: list[str]) -> web.StreamResponse:
    """aiohttp's own answers in our form."""
    if error.status < 400:
        return error
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = sorted(error.allowed_methods)
        known: CallerError = MethodNotAllowed(
            f"{request.path} does not take {request.method}; it takes {', '.join(allowed)}"
        )
        reply = problem_reply(known)
        reply.headers["Allow"] = ", ".join(allowed)
        return reply
    if error.status == 404:
        close = did_you_mean(request.path[:200], paths)
        return problem_reply(
            NotFound(f"there is no {request.path[:200]} here", hint=close or "GET /openapi.json lists every path")
        )
    if error.status == 413:
        return problem_reply(TooLarge(f"the body is larger than {request.path} takes"))
    return problem_reply(BadRequest(error.reason))
