"""A stem cell with nothing to do practises: it loads a sample function and serves it, over a socket to itself.

A forked process pays for each page of memory it first touches, and the interpreter for each function it first
runs. Paid here, by nobody who waits, this takes a millisecond off the first call and more off INIT.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys

from faas import call as faas_call
from faas_runtime.codec import Encoder
from faas_runtime.function import Function, Serving
from faas_runtime.gate import Gate
from faas_runtime.link import Link
from faas_runtime.output import Output
from faas_runtime.page import Page
from faas_runtime.protocol import INVOKE
from faas_runtime.serve_blocking import BlockingServer

IDLE_MS = 20
"""How long nothing must have come: after a crash INIT follows at once, and need not wait for this."""
_SAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sample")
_MODULE = "faas_warm_up"
_ROUNDS = 3
_HEAD = ["warm-up", "http", "POST", "/", "", [[b"content-type", b"application/json"]], 1000, {}]
_SPEC = {
    "app": "", "function": "", "version": 0, "instance": "", "code": _SAMPLE, "handler": "", "style": "",
    "concurrency": 1, "network": "none",
}  # fmt: skip


def is_idle(link: Link) -> bool:
    """True when nothing has come from the node for IDLE_MS."""
    poll = select.poll()
    poll.register(link.fd, select.POLLIN)
    return not poll.poll(IDLE_MS)


def warm_up(page: Page, output: Output, gate: Gate, cancel_signal: int) -> None:
    """Leaves no trace but warm memory: no module, no hook, no handler of a signal."""
    ours, theirs = socket.socketpair()
    try:
        sys.path.insert(0, _SAMPLE)
        server = BlockingServer(Serving(Link(theirs), page, output, Function(_SPEC, 0.0)), gate, cancel_signal)
        server.start()
        encoder = Encoder()
        for number in range(_ROUNDS):
            ours.sendall(encoder.encode([INVOKE, 2 * number + 2, _HEAD, b'{"a": [1, "b", null]}', True]))
            server.serve_one()
            ours.recv(4096)
        _touch_asyncio()
    finally:
        ours.close()
        theirs.close()
        signal.signal(cancel_signal, signal.SIG_DFL)
        sys.path.remove(_SAMPLE)
        sys.path_importer_cache.pop(_SAMPLE, None)
        sys.modules.pop(_MODULE, None)
        faas_call.backend = None


def _touch_asyncio() -> None:
    async def nothing() -> None:
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(nothing())
    loop.close()
