"""The HTTP server of a listener. What is not even a request gets an answer of ours too: a problem document."""

from __future__ import annotations

from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from faas.errors import BadRequest, CallerError, FaasError, Internal
from faas.gateway.replies import problem_response
from faas.ids import new_id

log = structlog.get_logger(__name__)


class HeadTooLarge(CallerError):
    """A line of the request's head, or a header of it, is longer than the server takes in."""

    code, status = "head_too_large", 431


class Connection(web.RequestHandler):
    """One connection of a caller."""

    __slots__ = ()

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
    """`aiohttp.web.Server` whose connections are ours. Takes the same arguments."""

    def __init__(self, handler: Any, **options: Any) -> None:
        own = {name: options.pop(name) for name in ("request_factory", "handler_cancellation") if name in options}
        super().__init__(handler, **own, **options)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        """A connection that has just been accepted."""
        assert self._loop is not None
        return Connection(self, loop=self._loop, **self._options)


def _error(cause: BaseException | None, call_id: str) -> FaasError:
    if isinstance(cause, LineTooLong):
        return HeadTooLarge(
            "a header or the path of the request is too long",
            hint="Send less in cookies, headers and the query; large values belong into the body.",
        )
    if isinstance(cause, HttpProcessingError):
        said = cause.message.partition("\n")[0].rstrip(":") or type(cause).__name__
        return BadRequest(f"the request is not HTTP as this server reads it: {said[:200]}")
    return Internal("the request failed inside the platform", hint=f"Search the node's log for {call_id}.")
