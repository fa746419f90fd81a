"""Request and reply as a handler sees them, for running its file as plain Python: in a test, in a shell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

Pairs = list[tuple[str, str]]


class Headers(Mapping[str, str]):
    """Names are case-insensitive; several values of one name are joined with a comma."""

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
        return [value for known, value in self._pairs if known == name.lower()]

    def pairs(self) -> Pairs:
        """All headers in order, names in lower case."""
        return list(self._pairs)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def __repr__(self) -> str:
        return f"Headers({self._pairs!r})"


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded file of a multipart form."""

    filename: str
    content_type: str
    data: bytes


class Request:
    """The whole request. On a node the platform makes it; here a test does.

    Args:
        path: what follows the function's name.
        query_string: what follows `?`.
        params: what a route's `{...}` matched.
        event: what `data()` answers; not given: the body as JSON, else as text.
    """

    def __init__(
        self,
        method: str = "GET",
        path: str = "/",
        query_string: str = "",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        params: Mapping[str, str] | None = None,
        event: Any = ...,
        client: str = "",
        url: str = "",
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = Headers(headers.items() if isinstance(headers, Mapping) else headers)
        self.body = body
        self.params = dict(params or {})
        self.client = client
        self.url = url or f"http://localhost{path}" + (f"?{query_string}" if query_string else "")
        self._event = event

    @property
    def query(self) -> dict[str, Any]:
        """Parameters after `?`; a name that comes more than once has a list."""
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.query_string, keep_blank_values=True):
            found.setdefault(name, []).append(value)
        return {name: values if len(values) > 1 else values[0] for name, values in found.items()}

    @property
    def content_type(self) -> str:
        """Media type in lower case without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def data(self) -> Any:
        """What a plain handler would get as `event`."""
        if self._event is not ...:
            return self._event
        if not self.body:
            return self.query
        try:
            return json.loads(self.body)
        except ValueError:
            return self.text()

    def text(self, encoding: str = "utf-8") -> str:
        """The body as text. Raises UnicodeDecodeError."""
        return self.body.decode(encoding)

    def json(self) -> Any:
        """The body as JSON, whatever its label. Raises ValueError."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<faas.Request {self.method} {self.path}>"


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
