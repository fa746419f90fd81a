"""One socket of an instance: bytes in, messages out. No meaning here, only framing and the end of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import structlog

from faas.errors import ProtocolError
from faas.wire import limits
from faas.wire import messages as m
from faas.wire.codec import Decoder, encode
from faas.wire.messages import Message

log = structlog.get_logger(__name__)

WELCOME = m.welcome(
    limits.PROTOCOL,
    {
        "frame": limits.FRAME_MAX,
        "inline": limits.INLINE_MAX,
        "chunk": limits.CHUNK_MAX,
        "window": limits.WINDOW,
    },
)


TURN = 64
"""Frames taken from one connection before others get their turn: about a millisecond of work."""
REST = 2.0
"""Times as long as a full turn took, the connection rests."""

OnMessage = Callable[[Message], None]
OnClosed = Callable[[str], None]


class Connection(asyncio.Protocol):
    """A framed connection. The listener sets `on_message` and `on_closed` once it knows whose it is."""

    __slots__ = ("_accept", "_decoder", "_transport", "broken", "closed", "on_closed", "on_message")

    def __init__(self, accept: Callable[[Connection, Message], None]) -> None:
        self._accept = accept
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self.on_message: OnMessage = self._first
        self.on_closed: OnClosed = _ignore
        self.closed = False
        self.broken = False
        """Closed by us because the other side broke the protocol."""

    def _first(self, message: Message) -> None:
        self._accept(self, message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Part of the protocol. Takes TURN frames; with more, the others get their turn before it goes on."""
        begun = time.perf_counter()
        try:
            for message in self._decoder.feed(data, TURN):
                if self.closed:
                    return
                self.on_message(message)
            if self._decoder.more and not self.closed:
                self._rest((time.perf_counter() - begun) * REST)
        except ProtocolError as error:
            self.broken = True
            self.close(error.message)
        except Exception:
            # What we know of the instance may be wrong now: it is replaced rather than waited for.
            log.exception("a frame could not be handled; this is a defect, and costs one instance")
            self.close("the node failed on a frame")

    def _rest(self, seconds: float) -> None:
        """Read no more for a while: what floods its connection gets its share of the event loop, not all of it."""
        assert self._transport is not None
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()
            self.data_received(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(str(exc) if exc else "closed by the instance")

    def send(self, message: Message) -> None:
        """Write one frame; a closed connection swallows it: `on_closed` has told its owner."""
        if self._transport is not None and not self.closed:
            self._transport.write(encode(message))

    def close(self, reason: str) -> None:
        """Close once, telling the owner why. Idempotent."""
        if self.closed:
            return
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
        self.on_closed(reason)


def _ignore(_reason: str) -> None:
    return


async def listen(directory: Path, uid: int, accept: Callable[[Connection, Message], None]) -> asyncio.Server:
    """Listen on `directory/sock`, mode 0600, owned by `uid`."""
    loop = asyncio.get_running_loop()
    listener = bind(directory / "sock", uid)
    try:
        return await loop.create_unix_server(lambda: Connection(accept), sock=listener)
    except BaseException:
        with contextlib.suppress(Exception):
            loop.remove_reader(listener)
        listener.close()
        raise


def bind(path: Path, uid: int) -> socket.socket:
    """A unix socket that listens at `path`, mode 0600, owned by `uid`.

    The path is reached through /proc/self/fd because socket addresses end at 107 bytes and data directories
    do not.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    handle = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{handle}/{path.name}")
        if os.geteuid() == 0 and uid != 0:
            os.chown(path, uid, uid)
        path.chmod(0o600)
        listener.listen(8)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(handle)
    return listener


def close_listener(server: asyncio.Server | None) -> None:
    """Stop accepting; never raises."""
    if server is not None:
        with contextlib.suppress(Exception):
            server.close()
