"""A request's bytes to the `event` a handler gets. Also the answers of functions that were called."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from faas._http import collect

from faas import File

FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 10_000


class BadBody(Exception):
    """The body is not what its label says. The caller's fault; `hint` says how to repair it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode_json = json.JSONDecoder(parse_constant=_no_constant).decode


def decode(headers: list[Any], query: str, body: bytes) -> Any:
    """The event. Raises BadBody."""
    if not body:
        return collect(parse_qsl(query, keep_blank_values=True)) if query else {}
    for name, value in headers:
        if len(name) == 12 and name.lower() == b"content-type":
            return decode_body(value.decode("latin-1"), body)
    return body


def decode_body(label: str, body: bytes) -> Any:
    """JSON, a form as dict, text as str, anything else as bytes. `label` is a Content-Type. Raises BadBody."""
    kind, _, parameters = label.partition(";")
    kind = kind.strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return _json(body, kind)
    if kind == FORM:
        return _form(body)
    if kind == "multipart/form-data":
        return _multipart(label, body)
    if kind.startswith("text/"):
        return _text(body, parameters)
    return body


def _json(body: bytes, kind: str) -> Any:
    try:
        return _decode_json(body.decode("utf-8-sig"))
    except RecursionError:
        raise BadBody("the body is JSON that is nested too deeply") from None
    except ValueError as error:
        raise BadBody(f"the body is labelled {kind} but is not JSON: {error}", _json_hint(body)) from None


def _json_hint(body: bytes) -> str:
    if b"'" in body and b'"' not in body:
        return 'JSON strings have double quotes: in a shell, -d \'{"name": "value"}\'.'
    return "Send valid JSON in UTF-8, or label the body with its real Content-Type."


def _form(body: bytes) -> Any:
    """A form; or JSON under a form's label, which is what plain `curl -d` sends."""
    if body.lstrip()[:1] in (b"{", b"["):
        try:
            return _decode_json(body.decode("utf-8"))
        except (ValueError, RecursionError):
            pass
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise BadBody(f"the body is labelled {FORM} but cannot be read: {error}") from None
    return collect(pairs)


def _text(body: bytes, parameters: str) -> str:
    charset = _parameter(parameters, "charset") or "utf-8"
    try:
        return body.decode(charset)
    except (LookupError, ValueError) as error:
        raise BadBody(
            f"the body is labelled as text but cannot be read as {charset}: {error}",
            "Name its encoding as in `text/plain; charset=latin-1`, or label it application/octet-stream.",
        ) from None


def _parameter(parameters: str, wanted: str) -> str:
    for part in parameters.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == wanted:
            return value.strip().strip('"')
    return ""


def _multipart(label: str, body: bytes) -> dict[str, Any]:
    from email.parser import BytesParser
    from email.policy import HTTP

    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + label.encode("latin-1") + b"\r\n\r\n" + body)
    if not message.is_multipart():
        raise BadBody("the body is labelled multipart/form-data but has no parts", "Check the label's boundary.")
    fields: list[tuple[str, Any]] = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            raise BadBody("a part of the multipart body has no name")
        data = part.get_payload(decode=True)
        if not isinstance(data, bytes):
            raise BadBody(f"part {name!r} of the multipart body is itself multipart")
        filename = part.get_filename()
        if filename is None:
            fields.append((name, data.decode(part.get_content_charset("utf-8"), "replace")))
        else:
            fields.append((name, File(filename, part.get_content_type(), data)))
    return collect(fields)
