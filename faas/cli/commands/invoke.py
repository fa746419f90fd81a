"""`faas invoke`: one call; its reply goes to standard output as it arrives."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faas.cli.commands import later
from faas.cli.exits import FUNCTION, OK
from faas.cli.options import KindType
from faas.cli.output import clean, milliseconds, note
from faas.cli.state import Command, State, pass_state, run
from faas.errors import DeadlineExceeded, Invalid, TooLarge
from faas.kinds import duration
from faas.model import MIB
from faas.names import parse_target
from faas.units import show_duration, show_size

if TYPE_CHECKING:
    from faas.sdk.client import Reply

BODY_MAX = 1024 * MIB
"""Most bytes sent; the function's own `body` limit is usually far lower."""
JSON_REPLY_MAX = 64 * MIB
"""Most bytes of a reply held for `--json`; without it replies are streamed."""


@click.command("invoke", cls=Command)
@click.argument("name", metavar="NAME[.APP][@VERSION|@ALIAS]")
@click.option(
    "-d", "--data", metavar="TEXT|@FILE|-", help="Body: text (JSON is recognised), a file, or standard input."
)
@click.option("-X", "--method", metavar="METHOD", help="HTTP method.  [default: POST with a body, else GET]")
@click.option("--path", "path", default="", metavar="/PATH", help="What follows the function's name; may hold ?a=b.")
@click.option("-H", "--header", "lines", multiple=True, metavar="NAME: VALUE", help="Header. May be repeated.")
@click.option("--timeout", type=KindType(duration(0.001, 86_400)), metavar="DURATION", help="Wait at most this long.")
@later.options
@click.option("-v", "--verbose", is_flag=True, help="Show status, headers and times on standard error.")
@pass_state
def invoke(
    state: State,
    /,
    name: str,
    data: str | None,
    method: str | None,
    path: str,
    lines: tuple[str, ...],
    timeout: float | None,
    verbose: bool,
    key: str,
    **background: Any,
) -> int:
    """Call a function and print its reply.

    Ends with 0 for a reply below status 400, with 1 for others and when the function failed.
    """
    flags = later.Later(**background)
    target = parse_target(name)
    body = _body(data)
    verb = _method(method, has_body=body is not None)
    request = {
        "method": verb,
        "path": _path(path),
        "headers": _headers(lines, body) | flags.headers() | ({"Idempotency-Key": key} if key else {}),
        "body": body,
    }
    if flags.asked:
        return later.send(state, str(target), request, flags)
    try:
        return run(_call(state, str(target), request, timeout, verbose))
    except TimeoutError as error:
        shown = show_duration(timeout or 0)
        raise DeadlineExceeded(f"{target} did not answer within {shown}", hint="Give a longer --timeout.") from error


async def _call(state: State, target: str, request: dict[str, Any], timeout: float | None, verbose: bool) -> int:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(timeout))
        client = await stack.enter_async_context(state.client())
        began = time.monotonic()
        reply = await stack.enter_async_context(client.invoke(target, **request))
        if verbose:
            _show_head(request["method"], reply)
        if reply.problem is not None:
            raise reply.problem
        if state.json:
            state.emit(await _document(reply, began))
        else:
            await _stream(reply)
    if verbose:
        note(f"* {milliseconds((time.monotonic() - began) * 1000)} in all, as seen from here")
    if reply.status < 400:
        return OK
    if not state.json:
        note(f"error: {target} answered {reply.status}")
    return FUNCTION


async def _stream(reply: Reply) -> None:
    """Chunks to standard output as they come; a line end at the end where a terminal would miss it."""
    out, last = sys.stdout.buffer, b"\n"
    async for chunk in reply.chunks:
        out.write(chunk)
        out.flush()
        last = chunk[-1:] or last
    if last != b"\n" and sys.stdout.isatty():
        out.write(b"\n")
        out.flush()


async def _document(reply: Reply, began: float) -> dict[str, Any]:
    """The whole reply as one JSON document. Bytes that are no text are base64."""
    content = bytearray()
    async for chunk in reply.chunks:
        content += chunk
        if len(content) > JSON_REPLY_MAX:
            limit = show_size(JSON_REPLY_MAX)
            raise TooLarge(f"the reply is larger than {limit}", hint="Leave out --json to stream it.")
    document: dict[str, Any] = {
        "status": reply.status,
        "headers": [list(pair) for pair in reply.headers],
        "call_id": reply.header("X-Call-Id"),
        "version": reply.header("X-Faas-Version"),
        "start": reply.header("X-Faas-Start"),
        "ms": round((time.monotonic() - began) * 1000, 3),
    }
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return {**document, "base64": base64.b64encode(content).decode()}
    if "json" not in reply.header("Content-Type"):
        return {**document, "body": text}
    try:
        return {**document, "body": json.loads(text)}
    except ValueError:
        return {**document, "body": text}


def _show_head(method: str, reply: Reply) -> None:
    note(f"> {method}")
    note(f"< {reply.status}")
    for key, value in reply.headers:
        note(f"< {key}: {clean(value)}")


def _body(data: str | None) -> bytes | None:
    if data is None:
        return None
    if data == "-":
        content = sys.stdin.buffer.read(BODY_MAX + 1)
    elif data.startswith("@"):
        path = Path(data[1:])
        try:
            with path.open("rb") as file:
                content = file.read(BODY_MAX + 1)
        except OSError as error:
            raise Invalid(
                f"{path} cannot be read: {error.strerror}", hint="Give -d @FILE with a file's path."
            ) from error
    else:
        content = data.encode("utf-8", "surrogateescape")
    if len(content) > BODY_MAX:
        raise TooLarge(f"the body is larger than {show_size(BODY_MAX)}")
    return content


def _headers(lines: tuple[str, ...], body: bytes | None) -> dict[str, str]:
    """Headers as given, and the kind of the body where it can be told."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not line.isprintable():
            raise Invalid(f'"{line[:80]}" is not a header', hint='Write -H "Name: value".')
        headers[name.strip()] = value.strip()
    if body is not None and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = _content_type(body)
    return headers


def _content_type(body: bytes) -> str:
    try:
        json.loads(body)
    except ValueError:
        pass
    else:
        return "application/json"
    try:
        body.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain; charset=utf-8"


def _method(method: str | None, *, has_body: bool) -> str:
    verb = (method or ("POST" if has_body else "GET")).upper()
    if not verb.isascii() or not verb.isalpha() or len(verb) > 20:
        raise Invalid(f'"{verb[:40]}" is not an HTTP method', hint="Write one such as GET, POST or DELETE.")
    return verb


def _path(path: str) -> str:
    """The path as it goes on the wire: other characters percent-encoded, escapes left as they are."""
    from urllib.parse import quote

    if path and path[0] not in "/?":
        raise Invalid(f'--path "{path[:80]}" does not start with / or ?', hint=f"Write --path /{path[:80]}.")
    return quote(path, safe="/?%:@!$&'()*+,;=~-._[]")
