"""The data plane's routes, on an application of their own or beside the control API's."""

from __future__ import annotations

from aiohttp import web

from faas.errors import MethodNotAllowed, NotFound
from faas.gateway.handler import PREFIX, Gateway
from faas.gateway.replies import problem_response
from faas.ids import new_id


def add_calls(app: web.Application, gateway: Gateway) -> None:
    """Serve calls on `app`, next to what else it serves."""
    app.router.add_route("*", PREFIX + "{call:.*}", gateway.handle)


def make_gateway(gateway: Gateway) -> web.Application:
    """An application that serves calls and nothing else: the listener for the outside."""
    app = web.Application()
    add_calls(app, gateway)
    app.router.add_route("*", "/{path:.*}", _unknown)
    return app


async def _unknown(request: web.Request) -> web.Response:
    """Whatever is not a call. `/healthz` answers, for load balancers."""
    if request.path == "/healthz":
        if request.method in ("GET", "HEAD"):
            return web.json_response({"ok": True})
        return problem_response(
            MethodNotAllowed("/healthz takes GET", extra={"allow": ["GET", "HEAD"]}), new_id("c"), full=True
        )
    error = NotFound("there is nothing at this path", hint="Calls go to /function/NAME.")
    return problem_response(error, new_id("c"), full=True)
