"""A connection to the node: a blocking stream socket that carries frames, safe for several threads."""

from __future__ import annotations

import os
import socket
import threading

from faas_runtime.codec import Decoder, Encoder
from faas_runtime.protocol import LinkClosed, Message

_RECEIVE = 64 * 1024
_CONNECT_S = 10.0


def connect(folder: str) -> socket.socket:
    """A socket connected to `folder/sock`. Raises OSError.

    Goes through the working directory: a socket's path must not exceed 107 bytes, a directory's may.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.chdir(folder)
        try:
            sock.settimeout(_CONNECT_S)
            sock.connect("sock")
            sock.settimeout(None)
        finally:
            os.chdir("/")
    except OSError:
        sock.close()
        raise
    return sock


class Link:
    """Frames over a blocking socket. `send` may be called by any thread, `receive` by one at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._lock = threading.RLock()
        self._sending = False
        self._late: list[Message] = []
        self._broken = False

    def send(self, message: Message) -> None:
        """Write one frame. Raises LinkClosed, or what `Encoder.encode` raises (then nothing was written).

        A signal handler or a finaliser that prints can land in the middle of another send of the same
        thread: its frame is written right after that one.
        """
        with self._lock:
            if self._sending:
                self._late.append(message)
                return
            if self._broken:
                raise LinkClosed("the connection to the node is broken")
            self._sending = True
            try:
                frame = self._encoder.encode(message)
                self._write(frame)
                while self._late:
                    self._write(self._encoder.encode(self._late.pop(0)))
            finally:
                self._sending = False

    def _write(self, frame: bytes) -> None:
        self._broken = True  # until all of it is out: whatever interrupts us leaves half a frame behind
        try:
            self.sock.sendall(frame)
        except OSError as cause:
            raise LinkClosed(f"cannot write to the node: {cause}") from cause
        self._broken = False

    def receive(self, flags: int = 0) -> list[Message]:
        """Messages completed by one read; with MSG_DONTWAIT also none. Raises LinkClosed at the end."""
        try:
            data = self.sock.recv(_RECEIVE, flags)
        except BlockingIOError:
            return []
        except OSError as cause:
            raise LinkClosed(f"cannot read from the node: {cause}") from cause
        if not data:
            raise LinkClosed("the node closed the connection")
        return self._decoder.feed(data)

    def close(self) -> None:
        """Close this process's end. Never raises."""
        self._broken = True
        try:
            self.sock.close()
        except OSError:
            pass
