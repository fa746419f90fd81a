"""The first look at a request: a call goes to the gateway, by name or by route, everything else to whoever else serves
this listener.

An aiohttp Application would route, wrap and look up middlewares for every call; one comparison does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import CIMultiDict

from faas.control.routes import Routes
from faas.errors import MethodNotAllowed, NotFound
from faas.gateway import background
from faas.gateway.asked import PREFIX
from faas.gateway.cors import asked_method
from faas.gateway.handler import Gateway
from faas.gateway.proxies import Proxies
from faas.gateway.replies import problem_response
from faas.ids import new_id
from faas.policy.routing import Allowed, Match, Table

_CALLS = (PREFIX, background.PREFIX)
_RESULTS = "/v1/invocations/"
OUTSIDE = "X-Faas-Outside"
"""Header of requests that came in by a listener for calls; the control API reads it."""

Others = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Front:
    """`handle` is the handler of an `aiohttp.web.Server`.

    Args:
        others: who answers what is no call.
        routes: functions' own paths.
        proxies: whose word on the caller's address counts.
    """

    def __init__(
        self, gateway: Gateway, others: Others, routes: Routes | None = None, proxies: Proxies | None = None
    ) -> None:
        self._gateway = gateway
        self._others = others
        self._routes = routes or Routes()
        self._proxies = proxies or Proxies()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request."""
        if self._proxies:
            request = self._proxies.seen(request)
        raw_path = request.rel_url.raw_path
        if raw_path.startswith(_CALLS):
            return await self._gateway.handle(request)
        table = self._routes.table
        found = table.find(request.method, request.host, raw_path) if table else None
        if found is None:
            return await self._others(request)
        if isinstance(found, Match):
            return await self._gateway.handle(request, found)
        return self._preflight(request, table) or _not_allowed(request, found)

    def _preflight(self, request: web.BaseRequest, table: Table) -> web.Response | None:
        """A preflight for a route that does not take OPTIONS itself, but the method the preflight is about."""
        method = asked_method(request)
        found = table.find(method, request.host, request.rel_url.raw_path) if method else None
        return self._gateway.preflight(request, found.function) if isinstance(found, Match) else None


def _not_allowed(request: web.BaseRequest, found: Allowed) -> web.Response:
    error = MethodNotAllowed(
        f"this path does not take {request.method}; it takes {', '.join(found.methods)}",
        extra={"allow": list(found.methods)},
    )
    return problem_response(error, new_id("c"), full=True)


def results_only(control: Others) -> Others:
    """For listeners that serve calls: what was accepted here can be asked about here, and nothing else.

    Args:
        control: the control API, which checks who asks.
    """

    async def others(request: web.BaseRequest) -> web.StreamResponse:
        if request.rel_url.raw_path.startswith(_RESULTS):
            # Told by a header, which takes rights and gives none: here a token is needed, whatever the address.
            headers = CIMultiDict(request.headers)
            headers[OUTSIDE] = "1"
            return await control(request.clone(headers=headers))
        return await nothing_else(request)

    return others


async def nothing_else(request: web.BaseRequest) -> web.StreamResponse:
    """For listeners that serve calls only. `/healthz` answers, for load balancers."""
    if request.path == "/healthz":
        if request.method in ("GET", "HEAD"):
            return web.json_response({"ok": True})
        wrong = MethodNotAllowed("/healthz takes GET", extra={"allow": ["GET", "HEAD"]})
        return problem_response(wrong, new_id("c"), full=True)
    error = NotFound("there is nothing at this path", hint="Calls go to /function/NAME.")
    return problem_response(error, new_id("c"), full=True)
