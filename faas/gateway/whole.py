"""A reply that is known in full, written to the connection as one piece.

aiohttp's Response builds a multidict, walks it and serialises it: about a third of what a warm call costs the gateway.
What a function answers is already bytes, so the common case joins them: HTTP/1.1, keep-alive, a body of moderate size.
Every other case (`fits` says no) takes aiohttp's way.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

from aiohttp import web
from aiohttp.http import HttpVersion11

from faas.gateway.replies import check_header, is_ours
from faas.node.call import Reply

BODY_MAX = 64 * 1024
"""Largest body written without looking at how much the connection still holds."""
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Whole:
    """Has what aiohttp asks of a response after a handler returned it: prepare, write_eof, keep_alive."""

    __slots__ = ("_data", "status")

    keep_alive = True

    def __init__(self, status: int, data: bytes) -> None:
        self.status = status
        self._data = data

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write head and body."""
        if request.transport is None:
            raise ConnectionResetError("the caller went away")
        request.transport.write(self._data)

    async def write_eof(self) -> None:
        """All is written."""


def fits(request: web.BaseRequest, reply: Reply) -> bool:
    """True when `whole` may answer this request."""
    return (
        reply.stream is None
        and len(reply.body) <= BODY_MAX
        and request.version == HttpVersion11
        and request.keep_alive
        and request.method != "HEAD"
        and reply.status >= 200
        and reply.status not in (204, 304)
    )


def whole(call_id: str, reply: Reply, extra: bytes) -> web.StreamResponse:
    """The response.

    Args:
        extra: header lines of ours besides those every reply carries, each ended by CRLF.

    Raises:
        BadReply: a header that would break the response.
    """
    status, body = reply.status, reply.body
    lines = [b"HTTP/1.1 %d %s\r\n" % (status, _REASONS.get(status, "").encode())]
    typed = False
    for name, value in reply.headers:
        lower = name.lower()
        if is_ours(lower):
            continue
        check_header(name, value)
        typed = typed or lower == b"content-type"
        lines.append(b"%s: %s\r\n" % (name, value))
    if body and not typed:
        lines.append(b"Content-Type: application/octet-stream\r\n")
    lines.append(
        (
            f"X-Call-Id: {call_id}\r\nX-Faas-Version: {reply.version}\r\n"
            f"X-Faas-Start: {'cold' if reply.cold else 'warm'}\r\n"
            f"Server-Timing: queue;dur={reply.queue_ms:.2f}, start;dur={reply.start_ms:.2f}, "
            f"run;dur={reply.run_ms:.2f}\r\n"
            f"X-Duration-Seconds: {reply.run_ms / 1000:.6f}\r\n"
            f"Content-Length: {len(body)}\r\nServer: faas\r\n"
        ).encode("ascii")
    )
    lines.append(_date())
    lines.append(extra)
    lines.append(b"\r\n")
    lines.append(body)
    # aiohttp's protocol asks a response for three things only, and this has them.
    return cast("web.StreamResponse", Whole(status, b"".join(lines)))


_dated = (0, b"")


def _date() -> bytes:
    """The Date header of this second."""
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        _dated = (now, b"Date: %s\r\n" % formatdate(now, usegmt=True).encode("ascii"))
    return _dated[1]
