"""The supervisor's connection: never blocks, so that PING and KILL are heard whatever the node reads."""

from __future__ import annotations

import socket

from faas_runtime.codec import Decoder, Encoder
from faas_runtime.protocol import LinkClosed, Message

PAUSE_AT = 256 * 1024
"""Bytes waiting for the node at which no more output is read."""


class Control:
    """Frames over a non-blocking socket, what the node has not taken yet is kept."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self.fd = sock.fileno()
        self._waiting = bytearray()
        self._encoder = Encoder()
        self._decoder = Decoder()

    @property
    def waiting(self) -> int:
        """Bytes the node has not taken."""
        return len(self._waiting)

    def send(self, *messages: Message) -> None:
        """Queue frames and write what goes. Raises LinkClosed."""
        for message in messages:
            self._waiting += self._encoder.encode(message)
        self.flush()

    def flush(self) -> None:
        """Write what goes now. Raises LinkClosed."""
        while self._waiting:
            try:
                sent = self._sock.send(self._waiting)
            except BlockingIOError:
                return
            except OSError as cause:
                raise LinkClosed(f"cannot write to the node: {cause}") from cause
            del self._waiting[:sent]

    def receive(self) -> list[Message]:
        """Messages that have arrived. Raises LinkClosed at the end."""
        try:
            data = self._sock.recv(64 * 1024)
        except BlockingIOError:
            return []
        except OSError as cause:
            raise LinkClosed(f"cannot read from the node: {cause}") from cause
        if not data:
            raise LinkClosed("the node closed the connection")
        return self._decoder.feed(data)

    def close(self) -> None:
        self._sock.close()
