"""Calls from web pages of other origins: what a browser asks before, and what it wants to see after.

A function that declares `cors` leaves all of it to the gateway: its own Access-Control headers are replaced. A
preflight carries no credential, so it is answered before anybody asks who calls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiohttp import web

from faas.errors import Forbidden
from faas.gateway.replies import problem_response
from faas.ids import new_id
from faas.wire.messages import Pairs

Lines = tuple[tuple[str, str], ...]
"""Header lines of a reply."""

ANY = "*"
MAX_AGE_S = 600
"""Seconds a browser may remember the answer to a preflight."""
EXPOSED = "X-Call-Id, X-Faas-Version, X-Faas-Start, Server-Timing, X-Duration-Seconds, Location, Retry-After"
_PREFIX = b"access-control-"
_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:\s*,\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_METHOD = re.compile(r"[A-Z]{1,16}")


def asked_method(request: web.BaseRequest) -> str:
    """The method a preflight is about; empty: the request is none."""
    if request.method != "OPTIONS" or "Origin" not in request.headers:
        return ""
    method = request.headers.get("Access-Control-Request-Method", "").upper()
    return method if _METHOD.fullmatch(method) else ""


def granted(request: web.BaseRequest, origins: Sequence[str]) -> Lines:
    """What a reply says of who may read it. Without a word the browser keeps it from the page."""
    shared = ("Vary", "Origin")
    origin = request.headers.get("Origin", "")
    if ANY in origins:
        return (("Access-Control-Allow-Origin", ANY), ("Access-Control-Expose-Headers", EXPOSED))
    if origin.lower() not in origins:
        return (shared,)
    return (("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", EXPOSED), shared)


def preflight(request: web.BaseRequest, origins: Sequence[str]) -> web.Response:
    """The answer to a preflight: 204 with what is allowed, or 403 that names the origin."""
    lines = granted(request, origins)
    origin = request.headers.get("Origin", "")
    if ANY not in origins and origin.lower() not in origins:
        refused = Forbidden(
            f"pages of {origin[:200]} may not call this function", hint="Push it with the origin in `cors`."
        )
        response = problem_response(refused, new_id("c"), full=True)
    else:
        response = web.Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = asked_method(request)
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
        wanted = request.headers.get("Access-Control-Request-Headers", "").strip()
        if _NAMES.fullmatch(wanted):
            response.headers["Access-Control-Allow-Headers"] = wanted
    add(response, lines)
    return response


def add(response: web.StreamResponse, lines: Lines) -> None:
    """Put `lines` into a response whose head is not out."""
    for name, value in lines:
        response.headers.add(name, value)


def encoded(lines: Lines) -> bytes:
    """`lines` as they are written, each ended by CRLF."""
    return "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")


def without_own(headers: Pairs) -> Pairs:
    """A function's reply headers without its own Access-Control ones."""
    return [(name, value) for name, value in headers if not name.lower().startswith(_PREFIX)]
