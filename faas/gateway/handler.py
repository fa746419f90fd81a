"""The data plane's hot path: `ANY /function/NAME[/path]` to a reply.

    parse name -> resolve -> may the caller? -> read body -> run -> response

Nothing here touches Redis or a thread while the function is warm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache

import structlog
from aiohttp import web

from faas.control.invoke import Invoker
from faas.control.tokens import Principal
from faas.errors import FaasError, Internal, Invalid, NotFound, Unauthorized
from faas.gateway import body as bodies
from faas.gateway.replies import HOP_BY_HOP, headers_of, problem_response, stamp
from faas.gateway.whole import fits, whole
from faas.ids import new_id
from faas.model import Function, Version
from faas.names import Target, parse_target
from faas.node.call import Call, Reply
from faas.wire.messages import Pairs

log = structlog.get_logger(__name__)

PREFIX = "/function/"
_DROPPED = frozenset(name.encode() for name in HOP_BY_HOP)
_BODILESS = frozenset({204, 205, 304})
"""Statuses whose replies end with their head."""
SANDBOX = "sandbox allow-scripts allow-forms"
"""Content-Security-Policy of function replies on a host that also serves the dashboard: see docs/architecture.md."""
_SANDBOX_LINE = f"Content-Security-Policy: {SANDBOX}\r\n".encode()


Authenticate = Callable[[Mapping[str, str]], Principal | None]


class Gateway:
    """Answers calls. One per node and listener."""

    def __init__(
        self,
        invoker: Invoker,
        authenticate: Authenticate,
        *,
        anonymous: bool,
        sandbox: bool,
        body_budget: int = 256 * 1024 * 1024,
    ) -> None:
        """
        Args:
            anonymous: callers without a token have the invoke role (loopback listeners).
            sandbox: the same host serves the dashboard.
            body_budget: bytes of large request bodies held in memory at once.
        """
        self._invoker = invoker
        self._authenticate = authenticate
        self._anonymous = anonymous
        self._sandbox = sandbox
        self._budget = bodies.Budget(body_budget)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """aiohttp handler for everything below PREFIX."""
        call_id = new_id("c")
        tracebacks = False
        full = self._anonymous
        try:
            raw_path = request.rel_url.raw_path
            name, slash, rest = raw_path[len(PREFIX) :].partition("/")
            target = _target(name)
            function, version = self._invoker.resolve_now(target) or await self._invoker.resolve(target)
            caller = self._authenticate(request.headers) if "Authorization" in request.headers else None
            if caller is not None and caller.may("invoke", function.app):
                full = tracebacks = True
            elif not self._anonymous and not version.settings.public:
                raise self._refusal(function, caller)
            return await self._run(request, function, version, call_id, "/" + rest if slash else "/", caller)
        except FaasError as error:
            return self._failed(request, error, call_id, full=full, tracebacks=tracebacks)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a call failed inside the gateway; this is a defect", call=call_id)
            defect = Internal("the gateway failed", hint=f"Search the node's log for {call_id}.")
            return self._failed(request, defect, call_id, full=full, tracebacks=False)

    async def _run(
        self,
        request: web.BaseRequest,
        function: Function,
        version: Version,
        call_id: str,
        path: str,
        caller: Principal | None,
    ) -> web.StreamResponse:
        claimed = 0
        content = b""
        if request.body_exists:
            content, claimed = bodies.at_hand(request, version.settings.body) or await bodies.read(
                request, version.settings.body, self._budget
            )
        try:
            call = Call(
                call_id,
                method=request.method,
                path=path,
                query=request.rel_url.raw_query_string,
                headers=_forwarded(request, ours=caller is not None),
                body=content,
                extra=_extra(request),
            )
            reply = await self._invoker.run(function, version, call)
            call.body = b""
            return await self._respond(request, call_id, reply)
        finally:
            if claimed:
                self._budget.give(claimed)

    async def _respond(self, request: web.BaseRequest, call_id: str, reply: Reply) -> web.StreamResponse:
        request_id = request.headers.get("X-Request-Id")
        if fits(request, reply) and not request_id:
            return whole(call_id, reply, _SANDBOX_LINE if self._sandbox else b"")
        try:
            headers = headers_of(reply.headers)
        except FaasError:
            reply.abandon("bad reply headers")
            raise
        stamp(headers, call_id, reply)
        if self._sandbox:
            headers["Content-Security-Policy"] = SANDBOX
        if request_id:
            headers["X-Request-Id"] = request_id[:256]
        if reply.stream is None:
            return web.Response(status=reply.status, body=reply.body, headers=headers)
        return await self._stream(request, call_id, reply, web.StreamResponse(status=reply.status, headers=headers))

    async def _stream(
        self, request: web.BaseRequest, call_id: str, reply: Reply, response: web.StreamResponse
    ) -> web.StreamResponse:
        assert reply.stream is not None
        try:
            await response.prepare(request)
            if request.method == "HEAD" or response.status in _BODILESS:
                # aiohttp writes what it is given: a body here would be read as the next reply's beginning.
                reply.abandon("this reply has no body")
                await response.write_eof()
                return response
            async for chunk in reply.stream:
                await response.write(chunk)
            await response.write_eof()
        except FaasError as error:
            # The head is out: all that is left to tell the caller is that the body is not whole.
            log.info("a streamed reply broke off; the caller sees a cut body", call=call_id, error=error.message)
            if request.transport is not None:
                request.transport.abort()
        except BaseException:
            reply.abandon("the caller went away")
            raise
        return response

    def _refusal(self, function: Function, caller: Principal | None) -> FaasError:
        if caller is None:
            return Unauthorized(
                f"{function.id} is private: calls need a token with the invoke role",
                hint="Send `Authorization: Bearer TOKEN`, or push it with --public.",
            )
        # Told apart from "unknown" only to those who may know: a foreign token learns nothing.
        return NotFound(f"no function {function.id} for this token")

    def _failed(
        self, request: web.BaseRequest, error: FaasError, call_id: str, *, full: bool, tracebacks: bool
    ) -> web.Response:
        response = problem_response(error, call_id, full=full, tracebacks=tracebacks or full)
        if request_id := request.headers.get("X-Request-Id"):
            response.headers["X-Request-Id"] = request_id[:256]
        return response


@lru_cache(maxsize=8192)
def _target(name: str) -> Target:
    try:
        return parse_target(name)
    except Invalid as error:
        raise NotFound(
            error.message, hint="Calls go to /function/NAME, NAME.APP, NAME@VERSION or NAME@ALIAS."
        ) from None


def _forwarded(request: web.BaseRequest, *, ours: bool) -> Pairs:
    """Request headers for the function: hop-by-hop ones and our own credential removed."""
    return [
        (name, value)
        for name, value in request.raw_headers
        if (lower := name.lower()) not in _DROPPED and not (ours and lower == b"authorization")
    ]


def _extra(request: web.BaseRequest) -> dict[str, object]:
    extra: dict[str, object] = {"client": request.remote or "", "scheme": request.scheme, "host": request.host}
    headers = request.headers
    if trace := headers.get("traceparent"):
        extra["trace"] = trace[:128]
    if request_id := headers.get("X-Request-Id"):
        extra["request_id"] = request_id[:256]
    return extra
