"""HTTP to one node: one connection pool, bounded waits, every failure one of `faas.errors`."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

import faas
from faas.errors import FaasError, Invalid, Unavailable
from faas.sdk.problems import from_bare, from_problem, from_status

CONNECT_S = 10.0
ANSWER_S = 60.0
"""Longest wait for a whole answer of the control API, in seconds."""
LINE_BUFFER = 1024 * 1024
"""Half of the longest line accepted in a stream, in bytes."""
ERROR_MAX = 1024 * 1024
"""Most bytes read of an error's body."""
VERSION_HINT = "Check that client and node are of the same version: faas status."
View = dict[str, Any]

_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class Http:
    """An async context manager around one session. Not for use by several event loops.

    Args:
        url: base address, such as `http://127.0.0.1:8080`.
        token: bearer token; empty: none is sent.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self.url = check_url(url)
        self._headers = {"User-Agent": f"faas/{faas.__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=32, socket_factory=_socket),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            read_bufsize=LINE_BUFFER,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        total_s: float | None = ANSWER_S,
        idle_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request; the answer whatever its status, its body not yet read.

        Args:
            path: percent-encoded path and query.
            total_s: seconds for all of it; None: no limit.
            idle_s: seconds without a byte; None: no limit.

        Raises:
            Unavailable: no connection, it broke, or the time is over.
        """
        assert self._session is not None, "use the client as an async context manager"
        times = aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_S, sock_read=idle_s)
        with self._translated():
            async with self._session.request(
                method,
                URL(self.url + path, encoded=True),
                headers=headers,
                data=body,
                timeout=times,
                allow_redirects=False,
            ) as response:
                yield response

    async def json(self, method: str, path: str, document: Any = None, *, total_s: float = ANSWER_S) -> Any:
        """One request of the control API; its decoded answer, None when that is empty. Raises FaasError."""
        headers, body = {"Accept": "application/json"}, None
        if document is not None:
            headers["Content-Type"] = "application/json"
            body = msgspec.json.encode(document)
        async with self.open(method, path, headers=headers, body=body, total_s=total_s) as response:
            await self.check(response)
            content = await response.read()
        return self.decode(content) if content else None

    async def lines(self, method: str, path: str, document: Any = None, *, idle_s: float) -> AsyncIterator[bytes]:
        """The lines of a streamed answer, empty ones (keep-alive) left out. Raises FaasError."""
        headers = {"Accept": "application/x-ndjson", "Content-Type": "application/json"}
        body = None if document is None else msgspec.json.encode(document)
        async with self.open(method, path, headers=headers, body=body, total_s=None, idle_s=idle_s) as response:
            await self.check(response)
            while True:
                try:
                    line = await response.content.readline()
                except HttpProcessingError as error:
                    raise Unavailable(f"{self.url} sent a line that is too long") from error
                if not line:
                    return
                if line.strip():
                    yield line

    async def check(self, response: aiohttp.ClientResponse) -> None:
        """Raise the error an answer of the control API stands for; return when it is a success."""
        if not 200 <= response.status < 300:
            raise await self.error_of(response)

    async def error_of(self, response: aiohttp.ClientResponse) -> FaasError:
        """The error in an unread answer."""
        if response.content_type != "application/problem+json":
            return from_bare(self.url, response.status, response.content_type)
        if response.method == "HEAD":
            return from_status(self.url, response.status)
        document = self.decode(await response.content.read(ERROR_MAX))
        if not isinstance(document, dict):
            return from_bare(self.url, response.status, response.content_type)
        return from_problem(document, retry_after=response.headers.get("Retry-After", ""))

    def decode(self, content: bytes, kind: Any = Any) -> Any:
        """JSON from the node as `kind`. Raises Unavailable: this is not what a node sends."""
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            raise Unavailable(
                f"{self.url} sent something that cannot be read: {error}",
                hint=VERSION_HINT,
            ) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(
                f"no node answers at {self.url}: {error.strerror or error}",
                hint="Start one with `faas up`, or name another with --url, FAAS_URL or `faas login`.",
            ) from error
        except TimeoutError as error:
            raise Unavailable(f"{self.url} did not answer in time", hint="Look at the node's log.") from error
        except aiohttp.ClientError as error:
            raise Unavailable(
                f"the connection to {self.url} broke: {str(error) or type(error).__name__}",
                hint="Run the command again; if it stays, look at the node's log.",
            ) from error


class ViewHttp(Http):
    """Answers that must be JSON objects."""

    async def view(self, method: str, path: str, document: Any = None, *, total_s: float = ANSWER_S) -> View:
        """One request of the control API; its answer, a JSON object. Raises FaasError."""
        view = await self.json(method, path, document, total_s=total_s)
        if not isinstance(view, dict):
            raise Unavailable(f"{self.url}{path} did not answer with a JSON object", hint=VERSION_HINT)
        return view


def check_url(url: str) -> str:
    """`url` without a slash at its end.

    Raises:
        Invalid: not `http://HOST[:PORT]` or https, or with user, query or fragment.
    """
    try:
        parsed = URL(url)
        good = parsed.scheme in ("http", "https") and parsed.host and parsed.port
    except ValueError:
        good = False
    if not good or parsed.user or parsed.password or parsed.query_string or parsed.fragment:
        raise Invalid(
            f'"{url[:200]}" is not a node\'s address', hint="Write http://HOST:PORT, such as http://127.0.0.1:8080."
        )
    return url.rstrip("/")


def _socket(address: Any) -> socket.socket:
    """A socket that notices a peer that has vanished: calls may rightly be silent for hours."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
