"""The frames of protocol version 1: type numbers and builders. The field order here is normative.

A frame is a msgpack array whose first element is the type. A stream id names one call on one link: even
ids are opened by the node, odd ids by the instance, so both sides can call. 0 means "no stream".
"""

from __future__ import annotations

from typing import Any

HELLO = 1
WELCOME = 2
INIT = 3
READY = 4
INIT_FAILED = 5
INVOKE = 6
REPLY = 7
HEAD = 8
CHUNK = 9
END = 10
ERROR = 11
CREDIT = 12
CANCEL = 13
LOG = 14
PING = 15
PONG = 16
DRAIN = 17
DRAINED = 18
EXITED = 19
KILL = 20

NAMES = {value: name for name, value in sorted(globals().items()) if name.isupper() and isinstance(value, int)}

Message = list[Any]
Pairs = list[tuple[bytes, bytes]]


def hello(protocol: int, role: str, info: dict[str, Any]) -> Message:
    """First frame of a connection. role: `control` (supervisor) or `data` (the process that runs user code)."""
    return [HELLO, protocol, role, info]


def welcome(protocol: int, limits: dict[str, int]) -> Message:
    return [WELCOME, protocol, limits]


def init(spec: dict[str, Any]) -> Message:
    """Give the instance its function. Keys of `spec`: see PROTOCOL.md, INIT."""
    return [INIT, spec]


def ready(info: dict[str, Any]) -> Message:
    return [READY, info]


def init_failed(error: dict[str, Any]) -> Message:
    return [INIT_FAILED, error]


def invoke(stream: int, head: list[Any], body: bytes, last: bool) -> Message:
    """Open a call. `last` False: CHUNK frames and an END follow."""
    return [INVOKE, stream, head, body, last]


def invoke_head(
    call_id: str,
    kind: str,
    method: str,
    path: str,
    query: str,
    headers: Pairs,
    timeout_ms: int,
    extra: dict[str, Any],
) -> list[Any]:
    """kind: `http`, `event` or `call`. timeout_ms: what is left of the deadline when the frame is written."""
    return [call_id, kind, method, path, query, headers, timeout_ms, extra]


def reply(stream: int, status: int, headers: Pairs, body: bytes, info: dict[str, Any]) -> Message:
    """A whole reply. The slot is free again. info: `run_us`, microseconds in the handler."""
    return [REPLY, stream, status, headers, body, info]


def head(stream: int, status: int, headers: Pairs) -> Message:
    return [HEAD, stream, status, headers]


def chunk(stream: int, data: bytes) -> Message:
    return [CHUNK, stream, data]


def end(stream: int, info: dict[str, Any]) -> Message:
    """The sender's body is complete; at the end of a reply the slot is free again."""
    return [END, stream, info]


def error(stream: int, detail: dict[str, Any]) -> Message:
    """The attempt failed; the slot is free again. Keys of `detail`: see PROTOCOL.md, ERROR."""
    return [ERROR, stream, detail]


def credit(stream: int, size: int) -> Message:
    return [CREDIT, stream, size]


def cancel(stream: int, reason: str) -> Message:
    return [CANCEL, stream, reason]


def log(call_id: str, level: str, time_ms: int, text: str, fields: dict[str, Any]) -> Message:
    """level: debug, info, warning, error, or `stdout`/`stderr` for raw output."""
    return [LOG, call_id, level, time_ms, text, fields]


def ping(token: int) -> Message:
    return [PING, token]


def pong(token: int) -> Message:
    return [PONG, token]


def drain(grace_ms: int) -> Message:
    return [DRAIN, grace_ms]


def drained() -> Message:
    return [DRAINED]


def exited(cause: dict[str, Any]) -> Message:
    return [EXITED, cause]


def kill(reason: str) -> Message:
    return [KILL, reason]
