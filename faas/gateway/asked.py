"""What a request is about: the function it names or reaches by a route, who calls, and what is handed on."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from aiohttp import web

from faas.control.tokens import Principal
from faas.errors import FaasError, Invalid, NotFound, Unauthorized
from faas.gateway import background, cors
from faas.gateway.replies import HOP_BY_HOP
from faas.gateway.server import LINE_MAX, HeadTooLarge
from faas.model import Function, Version
from faas.names import LIVE, Target, parse_target
from faas.policy.routing import Match
from faas.units import show_size
from faas.wire.messages import Pairs

PREFIX = "/function/"
HEAD_MAX = 256 * 1024
"""Bytes of a request's headers together: with a path and a small body they fit into one frame of the protocol."""
_FEW = HEAD_MAX // (2 * LINE_MAX)
"""So many headers cannot exceed HEAD_MAX: most requests are not counted."""
_DROPPED = frozenset(name.encode() for name in HOP_BY_HOP)


class Asked(NamedTuple):
    """What a request is about, once its name and caller are known."""

    target: Target
    function: Function
    version: Version
    path: str
    caller: Principal | None
    trusted: bool
    """The caller has the invoke role."""
    route: Match | None
    """The way it came by; None: under the function's name."""
    lines: cors.Lines
    """Header lines for its reply."""

    @property
    def who(self) -> str:
        """Whose idempotency keys these are."""
        return self.caller.name if self.caller else "anonymous"


def refusal(function: Function, caller: Principal | None) -> FaasError:
    """What a caller is told who may not call `function`."""
    if caller is None:
        return Unauthorized(
            f"{function.id} is private: calls need a token with the invoke role",
            hint="Send `Authorization: Bearer TOKEN`, or push it with --public.",
        )
    # Told apart from "unknown" only to those who may know: a foreign token learns nothing.
    return NotFound(f"no function {function.id} for this token")


def called(raw_path: str) -> tuple[Target, str, bool]:
    """Target, sub-path, and whether it is a background call, from a path below one of the two prefixes."""
    later = raw_path.startswith(background.PREFIX)
    name, slash, rest = raw_path[len(background.PREFIX if later else PREFIX) :].partition("/")
    return _target(name), "/" + rest if slash else "/", later


def routed(request: web.BaseRequest, route: Match) -> tuple[Target, str, bool]:
    """The same for a route: the path stays whole, as the caller wrote it."""
    return Target(route.function, None, LIVE), request.rel_url.raw_path, False


@lru_cache(maxsize=8192)
def _target(name: str) -> Target:
    try:
        return parse_target(name)
    except Invalid as error:
        raise NotFound(
            error.message, hint="Calls go to /function/NAME, NAME.APP, NAME@VERSION or NAME@ALIAS."
        ) from None


def forwarded(request: web.BaseRequest, *, ours: bool) -> Pairs:
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


def extra_of(request: web.BaseRequest, route: Match | None) -> dict[str, object]:
    """What the function may know beside the request itself."""
    extra: dict[str, object] = {"client": request.remote or "", "scheme": request.scheme, "host": request.host}
    if route is not None:
        extra["params"] = route.params
    headers = request.headers
    if trace := headers.get("traceparent"):
        extra["trace"] = trace[:128]
    if request_id := headers.get("X-Request-Id"):
        extra["request_id"] = request_id[:256]
    return extra
