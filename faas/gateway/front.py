"""The first look at a request: a call goes to the gateway, everything else to whoever else serves this listener.

An aiohttp Application would route, wrap and look up middlewares for every call; one comparison does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from faas.errors import MethodNotAllowed, NotFound
from faas.gateway import background
from faas.gateway.handler import PREFIX, Gateway
from faas.gateway.replies import problem_response
from faas.ids import new_id

_CALLS = (PREFIX, background.PREFIX)

Others = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Front:
    """`handle` is the handler of an `aiohttp.web.Server`."""

    def __init__(self, gateway: Gateway, others: Others) -> None:
        self._gateway = gateway
        self._others = others

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request."""
        if request.rel_url.raw_path.startswith(_CALLS):
            return await self._gateway.handle(request)
        return await self._others(request)


async def nothing_else(request: web.BaseRequest) -> web.StreamResponse:
    """For listeners that serve calls only. `/healthz` answers, for load balancers."""
    if request.path == "/healthz":
        if request.method in ("GET", "HEAD"):
            return web.json_response({"ok": True})
        wrong = MethodNotAllowed("/healthz takes GET", extra={"allow": ["GET", "HEAD"]})
        return problem_response(wrong, new_id("c"), full=True)
    error = NotFound("there is nothing at this path", hint="Calls go to /function/NAME.")
    return problem_response(error, new_id("c"), full=True)
