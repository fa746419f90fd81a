"""What is not a call, at a worker process: passed on to the node over a private unix socket, both ways as it comes.

client ---> worker: Front > Proxy.handle ---- DATA/relay/http ----> node: `from_workers` > its own Front
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import structlog
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from faas.errors import FaasError, Unavailable
from faas.gateway.body import ask_for_it
from faas.gateway.replies import HOP_BY_HOP, problem_response
from faas.gateway.server import LINE_MAX, LINES_MAX
from faas.ids import new_id

log = structlog.get_logger(__name__)

SOCKET = "http"
"""Name of the node's socket in the relay directory."""
CLIENT = "X-Faas-Client"
"""Scheme and address of the client, believed on that socket and nowhere else."""
CONNECT_S = 5.0

_NOT_ASKED_ON = HOP_BY_HOP | {"expect", CLIENT.lower()}


class Proxy:
    """An async context manager around the connections to the node.

    Args:
        directory: the node's relay directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._handle = -1
        self._session: aiohttp.ClientSession | None = None
        self._open: set[aiohttp.ClientResponse] = set()

    async def __aenter__(self) -> Self:
        # Held open: addresses of sockets end at 107 bytes, and this makes a short one.
        self._handle = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(f"/proc/self/fd/{self._handle}/{SOCKET}", limit=0),
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=CONNECT_S),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_line_size=4 * LINE_MAX,
            max_field_size=4 * LINE_MAX,
            max_headers=4 * LINES_MAX,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
        os.close(self._handle)

    def cut(self) -> None:
        """End the answers that are still under way, such as followed logs: they would never end by themselves."""
        for answer in tuple(self._open):
            answer.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Ask the node, and answer what it answers."""
        try:
            return await self._handle_it(request)
        except FaasError as error:
            return problem_response(error, new_id("c"), full=True)

    async def _handle_it(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._session is not None
        if "Expect" in request.headers:
            await ask_for_it(request)
        try:
            answer = await self._session.request(
                request.method,
                _url(request),
                headers=_asked(request),
                data=_body(request),
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as cause:
            raise Unavailable(
                f"the node does not answer this HTTP process: {type(cause).__name__}",
                hint="Repeat the request in a moment; what it was to change may have happened.",
                retry_after_s=1.0,
            ) from cause
        self._open.add(answer)
        try:
            return await _pass_on(request, answer)
        finally:
            self._open.discard(answer)
            answer.close()


async def _pass_on(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_answered(answer))
    if request.method == "HEAD" or answer.status in (204, 304):
        await response.prepare(request)
        await response.write_eof()
        return response
    try:
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
    except (aiohttp.ClientError, OSError) as error:
        # The head is out: all that is left to tell the client is that the body is not whole.
        log.debug("an answer of the node broke off", path=request.path, error=type(error).__name__)
        if request.transport is not None:
            request.transport.abort()
    return response


def _url(request: web.BaseRequest) -> URL:
    asked = request.rel_url
    path = asked.raw_path if asked.raw_path.startswith("/") else "/" + asked.raw_path
    return URL.build(scheme="http", host="node", path=path, query_string=asked.raw_query_string, encoded=True)


def _asked(request: web.BaseRequest) -> CIMultiDict[str]:
    headers = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in _NOT_ASKED_ON)
    headers[CLIENT] = f"{request.scheme} {request.remote or ''}"
    headers["Host"] = request.host
    return headers


def _answered(answer: aiohttp.ClientResponse) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP)


def _body(request: web.BaseRequest) -> AsyncIterator[bytes] | None:
    return request.content.iter_any() if request.body_exists else None
