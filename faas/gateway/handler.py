"""The data plane's hot path: `ANY /function/NAME[/path]`, or a route, to a reply.

    name or route -> resolve -> may the caller? -> how often? -> read body -> run -> response

Nothing here touches Redis or a thread while the function is warm.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from aiohttp import web

from faas.control.guesses import Guesses
from faas.control.jobs import Jobs
from faas.control.once import OnceOnly
from faas.control.tokens import Principal, Tokens, bearer
from faas.errors import FaasError, Internal, Unauthorized
from faas.gateway import background, cors
from faas.gateway import body as bodies
from faas.gateway.asked import Asked, called, extra_of, forwarded, refusal, routed
from faas.gateway.limits import Limits, body_limit
from faas.gateway.ports import Runs
from faas.gateway.proxies import is_local
from faas.gateway.replies import headers_of, problem_response, stamp
from faas.gateway.whole import fits, whole
from faas.ids import new_id
from faas.model import MIB, Version
from faas.names import LIVE, FunctionName, Target
from faas.node.call import Call, Reply
from faas.policy.routing import Match

log = structlog.get_logger(__name__)

_BODILESS = frozenset({204, 205, 304})
"""Statuses whose replies end with their head."""
SANDBOX = "sandbox allow-scripts allow-forms"
"""Content-Security-Policy of function replies on a host that also serves the dashboard: see docs/architecture.md."""
_SANDBOX_LINE = f"Content-Security-Policy: {SANDBOX}\r\n".encode()


class Gateway:
    """Answers calls. One per node and listener."""

    def __init__(
        self,
        invoker: Runs,
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
        self._once = OnceOnly(jobs.claims, jobs.reads, invoker.run)
        self._tokens = tokens
        self._guesses = guesses
        self._limits = Limits()
        self._anonymous = anonymous
        self._sandbox = sandbox
        self._body_max = body_max
        self._budget = bodies.Budget(body_budget)

    async def handle(self, request: web.BaseRequest, route: Match | None = None) -> web.StreamResponse:
        """Everything below PREFIX, below background.PREFIX, and what came by a route."""
        call_id = new_id("c")
        caller: Principal | None = None
        lines: cors.Lines = ()
        # Behind a trusted proxy on this machine, who comes from elsewhere does not become local.
        trusted = anonymous = self._anonymous and is_local(request.remote or "")
        try:
            target, path, later = called(request.rel_url.raw_path) if route is None else routed(request, route)
            function, version = self._invoker.resolve_now(target) or await self._invoker.resolve(target)
            if origins := version.settings.cors:
                lines = cors.granted(request, origins)
                if cors.asked_method(request):
                    return cors.preflight(request, origins)
            caller = self._identify(request, version, anonymous)
            trusted = anonymous or (caller is not None and caller.may("invoke", function.app))
            if not (trusted or version.settings.public):
                raise refusal(function, caller)
            self._limits.count(request, function, version.settings, route, time.monotonic())
            asked = Asked(target, function, version, path, caller, trusted, route, lines)
            return await self._run(request, call_id, asked, later)
        except FaasError as error:
            return self._failed(request, error, call_id, lines, full=trusted)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a call failed inside the gateway; this is a defect", call=call_id)
            defect = Internal("the gateway failed", hint=f"Search the node's log for {call_id}.")
            return self._failed(request, defect, call_id, lines, full=trusted)

    def preflight(self, request: web.BaseRequest, name: FunctionName) -> web.Response | None:
        """The answer to a preflight for a function that has left them to us; None: it has not."""
        found = self._invoker.resolve_now(Target(name, None, LIVE))
        origins = found[1].settings.cors if found else ()
        return cors.preflight(request, origins) if origins else None

    def _identify(self, request: web.BaseRequest, version: Version, anonymous: bool) -> Principal | None:
        """Who calls, if the call says so. Wrong tokens are counted only where one is needed."""
        if "Authorization" not in request.headers:
            return None
        if anonymous or version.settings.public:
            return self._tokens.authenticate(request.headers)
        presented = bearer(request.headers)
        return self._guesses.identify(self._tokens, presented, request.remote or "local", time.monotonic())

    async def _run(self, request: web.BaseRequest, call_id: str, asked: Asked, later: bool) -> web.StreamResponse:
        claimed = 0
        content = b""
        if request.body_exists:
            limit = min(body_limit(asked.version.settings, asked.route), self._body_max)
            if later and background.is_batch(request):
                limit = min(background.BATCH_MAX, self._body_max)
            content, claimed = bodies.at_hand(request, limit) or await bodies.read(request, limit, self._budget)
        try:
            call = Call(
                call_id,
                method=request.method,
                path=asked.path,
                query=request.rel_url.raw_query_string,
                headers=forwarded(request, ours=asked.caller is not None),
                body=content,
                extra=extra_of(request, asked.route),
            )
            if later or "Prefer" in request.headers:
                stored, wait_s = background.preference(request)
                if stored or later:
                    return await self._store(request, call, asked, wait_s)
            if background.KEY in request.headers and asked.trusted:
                return await self._run_once(request, call, asked)
            reply = await self._invoker.run(asked.function, asked.version, call)
            call.body = b""
            return await self._respond(request, call_id, reply, asked.lines)
        finally:
            if claimed:
                self._budget.give(claimed)

    async def _store(self, request: web.BaseRequest, call: Call, asked: Asked, wait_s: float) -> web.StreamResponse:
        if not asked.trusted:
            raise Unauthorized(
                "background calls need a token with the invoke role, also to public functions",
                hint="Send `Authorization: Bearer TOKEN`, or call it synchronously.",
            )
        order = background.Order(asked.target, asked.function, asked.version, call, asked.who)
        return self._boxed(await background.accept(self._jobs, request, order, wait_s), asked)

    async def _run_once(self, request: web.BaseRequest, call: Call, asked: Asked) -> web.StreamResponse:
        """A call that may be repeated under its key. A stranger's key is not kept: it is the function's own matter."""
        key = background.key_of(request)
        answer = await self._once.call(asked.function, asked.version, call, key, asked.who)
        if isinstance(answer, Reply):
            return await self._respond(request, call.id, answer, asked.lines)
        return self._boxed(background.replayed(answer), asked)

    def _boxed(self, response: web.Response, asked: Asked) -> web.Response:
        """A kept result is a function's reply like any other: on the dashboard's host it gets no origin."""
        if self._sandbox:
            response.headers["Content-Security-Policy"] = SANDBOX
        cors.add(response, asked.lines)
        return response

    async def _respond(
        self, request: web.BaseRequest, call_id: str, reply: Reply, lines: cors.Lines
    ) -> web.StreamResponse:
        if lines:
            reply.headers = cors.without_own(reply.headers)
        request_id = request.headers.get("X-Request-Id")
        if fits(request, reply) and not request_id:
            return whole(call_id, reply, (_SANDBOX_LINE if self._sandbox else b"") + cors.encoded(lines))
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
        headers.extend(lines)
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

    def _failed(
        self, request: web.BaseRequest, error: FaasError, call_id: str, lines: cors.Lines, *, full: bool
    ) -> web.Response:
        response = problem_response(error, call_id, full=full)
        cors.add(response, lines)
        if request_id := request.headers.get("X-Request-Id"):
            response.headers["X-Request-Id"] = request_id[:256]
        return response
