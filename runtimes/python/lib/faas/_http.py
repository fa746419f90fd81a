"""The HTTP request as a handler sees it, and the reply it may build."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

Pairs = list[tuple[str, str]]


class Headers(Mapping[str, str]):
    """Names are case-insensitive; several values of one name are joined with a comma, as HTTP allows."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = [(name.lower(), value) for name, value in pairs]

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def all(self, name: str) -> list[str]:
        """Every value of `name`, in order."""
        wanted = name.lower()
        return [value for known, value in self._pairs if known == wanted]

    def pairs(self) -> Pairs:
        """All headers in order, names in lower case."""
        return list(self._pairs)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def __repr__(self) -> str:
        return f"Headers({self._pairs!r})"


class File:
    """An uploaded file of a multipart form."""

    __slots__ = ("content_type", "data", "filename")

    def __init__(self, filename: str, content_type: str, data: bytes) -> None:
        self.filename = filename
        self.content_type = content_type
        self.data = data

    def __repr__(self) -> str:
        return f"File({self.filename!r}, {self.content_type!r}, {len(self.data)} bytes)"


class Request:
    """The whole request. `path` is what follows the function's name, `params` what a route's `{...}` matched."""

    __slots__ = ("_event", "_headers", "_raw_headers", "body", "extra", "method", "path", "query_string")

    def __init__(
        self,
        method: str,
        path: str,
        query_string: str,
        raw_headers: list[Any],
        body: bytes,
        extra: dict[str, Any],
        event: Any,
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.body = body
        self.extra = extra
        self._raw_headers = raw_headers
        self._headers: Headers | None = None
        self._event = event

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = Headers((n.decode("latin-1"), v.decode("latin-1")) for n, v in self._raw_headers)
        return self._headers

    @property
    def params(self) -> dict[str, str]:
        return dict(self.extra.get("params") or {})

    @property
    def client(self) -> str:
        """The caller's address, empty when there is none."""
        return str(self.extra.get("client") or "")

    @property
    def url(self) -> str:
        scheme, host = self.extra.get("scheme") or "http", self.extra.get("host") or self.headers.get("host", "")
        return f"{scheme}://{host}{self.path}" + (f"?{self.query_string}" if self.query_string else "")

    @property
    def query(self) -> dict[str, Any]:
        """Parameters after `?`; a name that comes more than once has a list."""
        return collect(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def content_type(self) -> str:
        """Media type in lower case without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def data(self) -> Any:
        """The decoded body, what a plain handler gets as `event`. A body that is broken raises, as there."""
        return self._event()

    def text(self, encoding: str = "utf-8") -> str:
        """The body as text. Raises UnicodeDecodeError."""
        return self.body.decode(encoding)

    def json(self) -> Any:
        """The body as JSON, whatever its label. Raises ValueError."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<faas.Request {self.method} {self.path}>"


def collect(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of pairs, with lists where a name comes more than once."""
    found: dict[str, Any] = {}
    repeated = set()
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif name in repeated:
            found[name].append(value)
        else:
            repeated.add(name)
            found[name] = [found[name], value]
    return found


class Response:
    """A reply with status and headers.

    Args:
        body: like a handler's return value: str, bytes, None, a generator, or what JSON can carry.
        status: 200 to 599.
        headers: a mapping, or pairs where a name comes more than once.
        content_type: instead of the one that follows from the body.
    """

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        body: Any = None,
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        content_type: str | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self.headers: Pairs = list(headers.items() if isinstance(headers, Mapping) else headers or ())
        self.content_type = content_type

    def __repr__(self) -> str:
        return f"<faas.Response {self.status}>"
