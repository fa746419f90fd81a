"""The HTTP server of a listener: its limits, and answers of ours for what is not even a request.

aiohttp bounds lines and bodies, not time: here a head that has begun must be whole within `head_s`, and a body whose
framing breaks fails its request at once instead of leaving it to wait for the rest.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from faas.errors import BadRequest, CallerError, FaasError, Internal, RequestTimeout
from faas.gateway.replies import problem_response
from faas.ids import new_id

log = structlog.get_logger(__name__)

KEEP_ALIVE_S = 75.0
"""Seconds a connection may stand without a request."""
HEAD_S = 30.0
"""Seconds from the first byte of a request's head to its last."""
LINE_MAX = 16 * 1024
"""Bytes in the request line, in a header's name and in its value."""
LINES_MAX = 128
"""Header lines in one request."""


class HeadTooLarge(CallerError):
    """The request's head, or a line of it, is longer than the server takes in."""

    code, status = "head_too_large", 431


class Connection(web.RequestHandler):
    """One connection of a caller.

    Args:
        head_s: seconds from the first byte of a head to its last.
    """

    __slots__ = ("_head_s", "_head_timer")

    def __init__(self, manager: web.Server, *, head_s: float, **options: Any) -> None:
        super().__init__(manager, **options)
        self._head_s = head_s
        self._head_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Part of the protocol. Looks only at what aiohttp made of the bytes."""
        super().data_received(data)
        messages = self._messages
        if messages:
            if self._head_timer is not None:
                self._stop_timer()
            if type(messages[-1][0]) is _ErrInfo:
                self._fail_body(messages[-1][0].exc)
        elif self._waiter is not None and self._head_timer is None:
            self._head_timer = self._loop.call_later(self._head_s, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Part of the protocol."""
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        late = RequestTimeout(
            f"the request's head did not arrive within {self._head_s:g} s",
            hint="Check the connection, then send it again.",
        )
        self._messages.append((_ErrInfo(status=late.status, exc=late, message=late.message), EMPTY_PAYLOAD))
        waiter.set_result(None)

    def _fail_body(self, cause: BaseException) -> None:
        """What came is no HTTP. As part of a body that is being read it fails that, and is not a request of its own."""
        request = self._current_request
        if len(self._messages) > 1 or request is None or request.content.is_eof():
            return
        self._messages.pop()
        request.content.set_exception(web.RequestPayloadError(_said(cause)))
        request.content.feed_eof()  # nothing of it is left to wait for
        self.close()  # after the answer

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what no handler could: bytes that are not HTTP, and a handler that failed. Closes the connection.

        Raises:
            ConnectionError: a reply had begun; all that is left is to end the connection.
        """
        call_id = new_id("c")
        error = _error(exc, call_id)
        if error.fault == "platform":
            log.error("a request failed inside the platform; this is a defect", call=call_id, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the reply had begun")
        response = problem_response(error, call_id, full=True)
        response.force_close()
        return response


class HttpServer(web.Server):
    """`aiohttp.web.Server` whose connections are ours, and whose limits are this module's.

    Bodies come as they were sent: what a caller has compressed is the function's to unpack, within its own limits.

    Args:
        request_factory: as aiohttp's.
        head_s: seconds from the first byte of a head to its last.
    """

    def __init__(self, handler: Any, *, request_factory: Any = None, head_s: float = HEAD_S) -> None:
        super().__init__(handler, request_factory=request_factory, handler_cancellation=True)
        self._options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "head_s": head_s,
            "keepalive_timeout": KEEP_ALIVE_S,
            "max_field_size": LINE_MAX,
            "max_headers": LINES_MAX,
            "max_line_size": LINE_MAX,
        }

    def __call__(self) -> web.RequestHandler:
        """A connection that has just been accepted."""
        assert self._loop is not None
        return Connection(self, loop=self._loop, **self._options)


def _error(cause: BaseException | None, call_id: str) -> FaasError:
    if isinstance(cause, FaasError):
        return cause
    if isinstance(cause, LineTooLong):
        return HeadTooLarge(
            "a header or the path of the request is too long",
            hint="Send less in cookies, headers and the query; large values belong into the body.",
        )
    if isinstance(cause, HttpProcessingError):
        said = _said(cause)
        if said.startswith("Too many headers"):
            return HeadTooLarge(f"the request has more than {LINES_MAX} headers", hint="Send fewer headers.")
        return BadRequest(f"the request is not HTTP as this server reads it: {said}")
    return Internal("the request failed inside the platform", hint=f"Search the node's log for {call_id}.")


def _said(cause: BaseException) -> str:
    """aiohttp's word for what is wrong, in one short line."""
    text = cause.message if isinstance(cause, HttpProcessingError) else str(cause)
    return text.partition("\n")[0].rstrip(":")[:200] or type(cause).__name__
