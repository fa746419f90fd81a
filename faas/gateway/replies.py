"""Replies and errors as HTTP responses."""

from __future__ import annotations

import re
from urllib.parse import quote

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from faas.errors import BadReply, FaasError, problem
from faas.node.call import Reply
from faas.wire.messages import Pairs

PROXY_NAME = "faas"
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OURS = frozenset(
    name.encode()
    for name in (
        *HOP_BY_HOP,
        *("content-length", "server", "date", "x-call-id", "x-faas-version", "x-faas-start"),
        *("server-timing", "x-duration-seconds", "x-request-id", "proxy-status", "content-security-policy"),
    )
)
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# Values of the `error` parameter of Proxy-Status, RFC 9209 section 2.3.
_PROXY_ERRORS = {
    "deadline_exceeded": "http_response_timeout",
    "instance_died": "connection_terminated",
    "crash_loop": "destination_unavailable",
    "no_room": "destination_unavailable",
    "unavailable": "destination_unavailable",
    "paused": "destination_unavailable",
    "too_many_requests": "connection_limit_reached",
    "not_found": "destination_not_found",
    "bad_reply": "http_protocol_error",
}


def is_ours(lower: bytes) -> bool:
    """True for a header, in lower case, that the gateway sets itself or that belongs to one connection."""
    return lower in _OURS


def check_header(name: bytes, value: bytes) -> None:
    """Raises BadReply for a name or value that would break the response."""
    if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
        raise BadReply(
            f"the reply header {name[:80].decode('latin-1')!r} has a character that HTTP does not allow",
            hint="Header names are tokens; values have no line ends or control characters.",
        )


def headers_of(pairs: Pairs) -> CIMultiDict[str]:
    """A function's reply headers, without those that are the gateway's own. Raises BadReply."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in pairs:
        check_header(name, value)
        if not is_ours(name.lower()):
            headers.add(name.decode("ascii"), value.decode("utf-8", "surrogateescape"))
    return headers


def stamp(headers: CIMultiDict[str], call_id: str, reply: Reply) -> None:
    """Add the headers every reply of a call carries."""
    headers["Server"] = PROXY_NAME
    headers["X-Call-Id"] = call_id
    headers["X-Faas-Version"] = str(reply.version)
    headers["X-Faas-Start"] = "cold" if reply.cold else "warm"
    if reply.stream is None:
        headers["Server-Timing"] = (
            f"queue;dur={reply.queue_ms:.2f}, start;dur={reply.start_ms:.2f}, run;dur={reply.run_ms:.2f}"
        )
        headers["X-Duration-Seconds"] = f"{reply.run_ms / 1000:.6f}"
    else:
        headers["Server-Timing"] = f"queue;dur={reply.queue_ms:.2f}, start;dur={reply.start_ms:.2f}"


def problem_response(error: FaasError, call_id: str | None, *, full: bool) -> web.Response:
    """An error as RFC 9457 problem document, marked as ours by Proxy-Status (RFC 9209).

    Args:
        full: the caller has the invoke role and may see more than code, fault and call id.
    """
    document = problem(error, call_id=call_id, full=full)
    headers: CIMultiDict[str] = CIMultiDict()
    kind = _PROXY_ERRORS.get(error.code, "http_request_error" if error.fault == "caller" else "proxy_internal_error")
    headers["Server"] = PROXY_NAME
    headers["Proxy-Status"] = f'{PROXY_NAME}; error={kind}; details="{quote(error.code)}"'
    if call_id:
        headers["X-Call-Id"] = call_id
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="faas"'
    if allow := error.extra.get("allow"):
        headers["Allow"] = ", ".join(allow)
    return web.Response(
        status=error.status,
        body=msgspec.json.encode(document),
        headers=headers,
        content_type="application/problem+json",
    )
