"""Numbers of protocol version 1, as runtimes/PROTOCOL.md lists them. A test compares the two."""

from __future__ import annotations

from typing import Any

PROTOCOL = 1
FRAME_MAX = 1048576
INLINE_MAX = 262144
CHUNK_MAX = 131072
WINDOW = 524288
LOG_LINE_MAX = 16384
TRACEBACK_MAX = 32768
HEADERS_MAX = 200

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

LOG_RATE = 1024 * 1024
"""Bytes of log a second, in the long run."""
LOG_BURST = 4 * 1024 * 1024

# Least number of elements of the frames an instance receives, the type included.
ARITY = {
    WELCOME: 3, INIT: 2, INVOKE: 5, REPLY: 6, HEAD: 4, CHUNK: 3, END: 3, ERROR: 3, CREDIT: 3, CANCEL: 3,
    PING: 2, DRAIN: 2, KILL: 2,
}  # fmt: skip

Message = list[Any]


class LinkClosed(Exception):
    """The connection to the node is gone, or what came over it is not the protocol."""
