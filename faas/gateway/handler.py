"""The data plane's hot path: `ANY /function/NAME[/path]` to a reply.

    parse name -> resolve -> may the caller? -> read body -> run -> response

Nothing here touches Redis or a thread while the function is warm.
"""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from typing import NamedTuple

import structlog
from aiohttp import web

from faas.control.guesses import Guesses
from faas.control.invoke import Invoker
from faas.control.jobs import Jobs
from faas.control.tokens import Principal, Tokens, bearer
from faas.errors import FaasError, Internal, Invalid, NotFound, Unauthorized
from faas.gateway import background
from faas.gateway import body as bodies
from faas.gateway.replies import HOP_BY_HOP, headers_of, problem_response, stamp
from faas.gateway.server import LINE_MAX, HeadTooLarge
from faas.gateway.whole import fits, whole
from faas.ids import new_id
from faas.model import MIB, Function, Version
from faas.names import Target, parse_target
from faas.node.call import Call, Reply
from faas.units import show_size
from faas.wire.messages import Pairs

log = structlog.get_logger(__name__)

PREFIX = "/function/"
_DROPPED = frozenset(name.encode() for name in HOP_BY_HOP)
_BODILESS = frozenset({204, 205, 304})
"""Statuses whose replies end with their head."""
SANDBOX = "sandbox allow-scripts allow-forms"
"""Content-Security-Policy of function replies on a host that also serves the dashboard: see docs/architecture.md."""
HEAD_MAX = 256 * 1024
"""Bytes of a request's headers together: with a path and a small body they fit into one frame of the protocol."""
_FEW = HEAD_MAX // (2 * LINE_MAX)
"""So many headers cannot exceed HEAD_MAX: most requests are not counted."""
_SANDBOX_LINE = f"Content-Security-Policy: {SANDBOX}\r\n".encode()


class _Asked(NamedTuple):
    """What a request is about, once its name and caller are known."""

    target: Target
    function: Function
    version: Version
    path: str
    caller: Principal | None
    trusted: bool
    """The caller has the invoke role."""


class Gateway:
    """Answers calls. One per node and listener."""

    def __init__(
        self,
        invoker: Invoker,
        jobs: Jobs,
        tokens: Tokens,
        guesses: Guesses,
        *,
        anonymous: bool,
        sandbox: bool,
        body_max: int = 256 * MIB,
        body_budget: int = 256 * MIB,
    ) -> None:
        """
        Args:
            anonymous: callers without a token have the invoke role (loopback listeners).
            sandbox: the same host serves the dashboard.
            body_max: bytes of the largest request body, whatever a function allows.
            body_budget: bytes of large request bodies held in memory at once.
        """
        self._invoker = invoker
        self._jobs = jobs
        self._tokens = tokens
        self._guesses = guesses
        self._anonymous = anonymous
        self._sandbox = sandbox
        self._body_max = body_max
        self._budget = bodies.Budget(body_budget)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Everything below PREFIX, and below background.PREFIX."""
        call_id = new_id("c")
        caller: Principal | None = None
        may_see = False
        try:
            raw_path = request.rel_url.raw_path
            later = raw_path.startswith(background.PREFIX)
            name, slash, rest = raw_path[len(background.PREFIX if later else PREFIX) :].partition("/")
            target = _target(name)
            function, version = self._invoker.resolve_now(target) or await self._invoker.resolve(target)
            caller = self._identify(request, version)
            may_see = caller is not None and caller.may("invoke", function.app)
            if not (may_see or self._anonymous or version.settings.public):
                raise _refusal(function, caller)
            asked = _Asked(target, function, version, "/" + rest if slash else "/", caller, may_see or self._anonymous)
            return await self._run(request, call_id, asked, later)
        except FaasError as error:
            return self._failed(request, error, call_id, full=may_see or self._anonymous)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a call failed inside the gateway; this is a defect", call=call_id)
            defect = Internal("the gateway failed", hint=f"Search the node's log for {call_id}.")
            return self._failed(request, defect, call_id, full=may_see or self._anonymous)

    def _identify(self, request: web.BaseRequest, version: Version) -> Principal | None:
        """Who calls, if the call says so. Wrong tokens are counted only where one is needed."""
        if "Authorization" not in request.headers:
            return None
        if self._anonymous or version.settings.public:
            return self._tokens.authenticate(request.headers)
        presented = bearer(request.headers)
        return self._guesses.identify(self._tokens, presented, request.remote or "local", time.monotonic())

    async def _run(self, request: web.BaseRequest, call_id: str, asked: _Asked, later: bool) -> web.StreamResponse:
        claimed = 0
        content = b""
        if request.body_exists:
            limit = min(asked.version.settings.body, self._body_max)
            content, claimed = bodies.at_hand(request, limit) or await bodies.read(request, limit, self._budget)
        try:
            call = Call(
                call_id,
                method=request.method,
                path=asked.path,
                query=request.rel_url.raw_query_string,
                headers=_forwarded(request, ours=asked.caller is not None),
                body=content,
                extra=_extra(request),
            )
            if later or "Prefer" in request.headers:
                stored, wait_s = background.preference(request)
                if stored or later:
                    return await self._store(request, call, asked, wait_s)
            reply = await self._invoker.run(asked.function, asked.version, call)
            call.body = b""
            return await self._respond(request, call_id, reply)
        finally:
            if claimed:
                self._budget.give(claimed)

    async def _store(self, request: web.BaseRequest, call: Call, asked: _Asked, wait_s: float) -> web.StreamResponse:
        if not asked.trusted:
            raise Unauthorized(
                "background calls need a token with the invoke role, also to public functions",
                hint="Send `Authorization: Bearer TOKEN`, or call it synchronously.",
            )
        caller = asked.caller.name if asked.caller else "anonymous"
        return await background.accept(
            self._jobs, request, asked.target, asked.function, asked.version, call, caller, wait_s
        )

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

    def _failed(self, request: web.BaseRequest, error: FaasError, call_id: str, *, full: bool) -> web.Response:
        response = problem_response(error, call_id, full=full)
        if request_id := request.headers.get("X-Request-Id"):
            response.headers["X-Request-Id"] = request_id[:256]
        return response


def _refusal(function: Function, caller: Principal | None) -> FaasError:
    if caller is None:
        return Unauthorized(
            f"{function.id} is private: calls need a token with the invoke role",
            hint="Send `Authorization: Bearer TOKEN`, or push it with --public.",
        )
    # Told apart from "unknown" only to those who may know: a foreign token learns nothing.
    return NotFound(f"no function {function.id} for this token")


@lru_cache(maxsize=8192)
def _target(name: str) -> Target:
    try:
        return parse_target(name)
    except Invalid as error:
        raise NotFound(
            error.message, hint="Calls go to /function/NAME, NAME.APP, NAME@VERSION or NAME@ALIAS."
        ) from None


def _forwarded(request: web.BaseRequest, *, ours: bool) -> Pairs:
    """Request headers for the function: hop-by-hop ones and our own credential removed. Raises HeadTooLarge."""
    pairs = [
        (name, value)
        for name, value in request.raw_headers
        if (lower := name.lower()) not in _DROPPED and not (ours and lower == b"authorization")
    ]
    if len(pairs) > _FEW and (size := sum(len(name) + len(value) for name, value in pairs)) > HEAD_MAX:
        raise HeadTooLarge(
            f"the request's headers have {show_size(size)} together; the limit is {show_size(HEAD_MAX)}",
            hint="Send less in cookies and headers; large values belong into the body.",
        )
    return pairs


def _extra(request: web.BaseRequest) -> dict[str, object]:
    extra: dict[str, object] = {"client": request.remote or "", "scheme": request.scheme, "host": request.host}
    headers = request.headers
    if trace := headers.get("traceparent"):
        extra["trace"] = trace[:128]
    if request_id := headers.get("X-Request-Id"):
        extra["request_id"] = request_id[:256]
    return extra
