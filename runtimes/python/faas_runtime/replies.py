"""What a handler returned, to status, headers and bytes."""

from __future__ import annotations

import json
import re
from typing import Any

from faas import Response
from faas_runtime.protocol import HEADERS_MAX

Pairs = list[tuple[bytes, bytes]]

JSON_HEADERS: Pairs = [(b"content-type", b"application/json")]
TEXT_TYPE, BYTES_TYPE, LINES_TYPE = "text/plain; charset=utf-8", "application/octet-stream", "application/x-ndjson"
_HEADERS_BYTES = 64 * 1024
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_encode_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class BadReply(Exception):
    """The return value cannot be sent. `hint` says what to return instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Reply:
    """A whole reply, or with `source` (an iterator, plain or async) the beginning of a streamed one."""

    __slots__ = ("body", "headers", "source", "status")

    def __init__(self, status: int, headers: Pairs, body: bytes = b"", source: Any = None) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.source = source


def to_reply(value: Any) -> Reply:
    """Follows the table in runtimes/python/README.md. Raises BadReply."""
    if type(value) in (dict, list):
        return Reply(200, JSON_HEADERS, to_json(value))
    if isinstance(value, tuple) and 2 <= len(value) <= 3 and _is_status(value[1]):
        value = Response(*value)
    if isinstance(value, Response):
        return _from_response(value)
    return _body(value, 200, [], None)


def _is_status(value: Any) -> bool:
    return type(value) is int and 200 <= value <= 599


def _from_response(value: Response) -> Reply:
    if not _is_status(value.status):
        raise BadReply(f"{value.status!r} is not an HTTP status from 200 to 599")
    headers = _headers(value.headers)
    return _body(value.body, value.status, headers, value.content_type)


def _body(value: Any, status: int, headers: Pairs, label: str | None) -> Reply:
    if value is None:
        return Reply(204 if status == 200 else status, headers)
    if is_stream(value):
        return Reply(status, _labelled(headers, label, ""), source=value)
    kind, body = encode(value)
    return Reply(status, _labelled(headers, label, kind), body)


def is_stream(value: Any) -> bool:
    """True for what is sent piece by piece."""
    return hasattr(value, "__next__") or hasattr(value, "__aiter__")


def encode(value: Any) -> tuple[str, bytes]:
    """(Content-Type, body) of one value; None is JSON's null. Raises BadReply."""
    if isinstance(value, str):
        return TEXT_TYPE, value.encode("utf-8", "replace")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return BYTES_TYPE, bytes(value)
    return "application/json", to_json(value)


def first_type(item: Any) -> str:
    """Content-Type of a stream whose first piece is `item`."""
    if isinstance(item, str):
        return TEXT_TYPE
    return BYTES_TYPE if isinstance(item, (bytes, bytearray, memoryview)) else LINES_TYPE


def piece(item: Any) -> bytes:
    """One piece of a stream: str and bytes as they are, anything else as a line of JSON. Raises BadReply."""
    kind, data = encode(item)
    return data + b"\n" if kind == "application/json" else data


def label_stream(reply: Reply, first: Any) -> Pairs:
    """Headers of a streamed reply once its first piece is known; None: it had none."""
    return reply.headers if first is None else _labelled(reply.headers, None, first_type(first))


def _labelled(headers: Pairs, label: str | None, otherwise: str) -> Pairs:
    if label is not None:
        return [pair for pair in headers if pair[0].lower() != b"content-type"] + _headers([("content-type", label)])
    if not otherwise or any(name.lower() == b"content-type" for name, _ in headers):
        return headers
    return [*headers, (b"content-type", otherwise.encode())]


def _headers(pairs: Any) -> Pairs:
    found: Pairs = []
    try:
        for name, value in pairs:
            found.append(_header(name, value))
    except (TypeError, ValueError) as error:
        if isinstance(error, BadReply):
            raise
        raise BadReply("headers are neither a mapping nor pairs of name and value") from None
    if len(found) > HEADERS_MAX:
        raise BadReply(f"the reply has {len(found)} headers, {HEADERS_MAX} is the most")
    if sum(len(name) + len(value) for name, value in found) > _HEADERS_BYTES:
        raise BadReply(f"the reply's headers exceed {_HEADERS_BYTES} bytes", "Put large values into the body.")
    return found


def _header(name: Any, value: Any) -> tuple[bytes, bytes]:
    name = name.decode("latin-1") if isinstance(name, bytes) else name
    value = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise BadReply(f"{name!r} is not a header name")
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise BadReply(f"header {name}: {value!r} is not a string")
    text = str(value)
    if _BAD_VALUE.search(text):
        raise BadReply(f"header {name}: the value has a line end or a control character")
    return name.encode("ascii"), text.encode("utf-8", "replace")


def to_json(value: Any) -> bytes:
    """Strict JSON in UTF-8. Raises BadReply naming the place of what JSON cannot carry."""
    try:
        return _encode_json(value).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    except RecursionError:
        raise BadReply("the return value is nested too deeply for JSON") from None
    except (TypeError, ValueError) as error:
        raise _explain(value, error) from None


def _explain(value: Any, error: Exception) -> BadReply:
    try:
        where, what = _culprit(value, "", set())
    except RecursionError:
        where, what = "", None
    place = f" at {where}" if where else ""
    if isinstance(what, float):
        return BadReply(f"the return value has {what!r}{place}, which JSON cannot carry", "Send None or a string.")
    if isinstance(what, _Cycle):
        return BadReply(f"the return value contains itself{place}", "Return a copy without the cycle.")
    if what is None:
        return BadReply(f"the return value cannot be sent as JSON: {error}")
    return BadReply(
        f"the return value has a {type(what).__name__}{place}, which JSON cannot carry",
        "Convert it first, such as with str(), list(), .isoformat() or dataclasses.asdict(); "
        "or return str, bytes or faas.Response.",
    )


class _Cycle:
    pass


def _culprit(value: Any, path: str, above: set[int]) -> tuple[str, Any]:
    """(place, value) of the first thing JSON cannot carry; (..., None) when there is none."""
    if value is None or isinstance(value, (str, int)):
        return path, None
    if isinstance(value, float):
        return path, None if value - value == 0 else value
    if not isinstance(value, (dict, list, tuple)):
        return path, value
    if id(value) in above:
        return path, _Cycle()
    above.add(id(value))
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(value, dict) and not isinstance(key, (str, int, float, type(None))):
            return f"{path} key {str(key)[:40]!r}".strip(), key
        found = _culprit(inner, f"{path}[{key!r}]"[:200], above)
        if found[1] is not None:
            return found
    above.discard(id(value))
    return path, None
