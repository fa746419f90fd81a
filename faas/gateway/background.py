"""`POST /async-function/NAME` and `Prefer: respond-async`: the call is stored and answered with 202."""

from __future__ import annotations

import re

import msgspec
from aiohttp import web

from faas.control.jobs import Jobs, Terms, at_from
from faas.errors import Invalid, MethodNotAllowed
from faas.gateway.replies import headers_of
from faas.model import Function, Version
from faas.names import Target
from faas.node.call import Call
from faas.store.queue.model import LANES, Info
from faas.units import parse_duration

PREFIX = "/async-function/"
_WAIT = re.compile(r"wait\s*=\s*(\d{1,4})")


def preference(request: web.BaseRequest) -> tuple[bool, float]:
    """(asynchronous, seconds to wait first) from the `Prefer` header of RFC 7240."""
    value = request.headers.get("Prefer", "").lower()
    if "respond-async" not in value:
        return False, 0.0
    wait = _WAIT.search(value)
    return True, float(wait[1]) if wait else 0.0


def terms(request: web.BaseRequest, caller: str) -> Terms:
    """How the call is to be run, from its headers. Raises Invalid naming the header."""
    headers = request.headers
    given = headers.get("X-Faas-Priority", "normal").lower()
    if given not in LANES:
        raise Invalid(f'X-Faas-Priority is "{given[:20]}"; it can be {", ".join(LANES)}')
    try:
        delay_s = parse_duration(headers.get("X-Faas-Delay", "0"))
        at = headers.get("X-Faas-At")
        moment = at_from(float(at)) if at is not None else None
    except ValueError as error:
        raise Invalid(f"X-Faas-Delay or X-Faas-At: {error}") from error
    # A structured-field string (RFC 9651) or, as many clients send it, the bare key.
    key = headers.get("Idempotency-Key", "").strip().strip('"')
    return Terms(key=key, caller=caller, delay_s=delay_s, at=moment, priority=given)


async def accept(
    jobs: Jobs,
    request: web.BaseRequest,
    target: Target,
    function: Function,
    version: Version,
    call: Call,
    caller: str,
    wait_s: float,
) -> web.Response:
    """Store the call: 202, or the result itself if it is there within `wait_s`."""
    if request.method != "POST" and request.path.startswith(PREFIX):
        raise MethodNotAllowed(f"{PREFIX}NAME takes POST", extra={"allow": ["POST"]})
    stored = await jobs.accept(target, function, version, call, terms(request, caller))
    if wait_s > 0:
        info = await jobs.info(stored.id, wait_s)
        if info.ended_ms:
            return await result_response(jobs, info)
    headers = {"Location": f"/v1/invocations/{stored.id}", "X-Call-Id": stored.id}
    if wait_s > 0 or "Prefer" in request.headers:
        headers["Preference-Applied"] = "respond-async"
    status = "duplicate" if stored.duplicate else "waiting"
    return web.Response(
        status=202,
        body=msgspec.json.encode({"id": stored.id, "status": status}),
        headers=headers,
        content_type="application/json",
    )


async def result_response(jobs: Jobs, info: Info) -> web.Response:
    """What the last attempt answered, as if it had been called synchronously."""
    result = await jobs.result(info.id)
    headers = {"X-Call-Id": info.id, "X-Faas-State": info.state}
    if result is None:
        return web.Response(status=204, headers=headers)
    if result.error is not None:
        return web.Response(
            status=result.status,
            body=msgspec.json.encode(result.error),
            headers=headers,
            content_type="application/problem+json",
        )
    all_headers = headers_of(list(result.headers))
    all_headers.update(headers)
    return web.Response(status=result.status, body=result.body, headers=all_headers)
