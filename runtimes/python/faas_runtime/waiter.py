"""Waiting for frames in blocking code: of all threads that wait, one reads for all (leader and followers)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from select import POLLIN, poll
from threading import Condition, Lock  # the real ones, whatever user code patches later
from typing import TypeVar

from faas_runtime.gate import Gate
from faas_runtime.link import Link
from faas_runtime.protocol import LinkClosed, Message
from faas_runtime.streams import Router

_T = TypeVar("_T")


class Waiter:
    """`wait` until the frames that arrive have made something true."""

    def __init__(self, link: Link, router: Router, gate: Gate, nudged: bool = False) -> None:
        """`nudged`: `nudge` will be used; costs a poll before every read."""
        self._link = link
        self._router = router
        self._gate = gate
        self._changed = Condition(Lock())
        self._reading = False
        self._followers = 0
        self._ended: LinkClosed | None = None
        self._poll = poll()
        self._poll.register(link.fd, POLLIN)
        self._nudges: tuple[socket.socket, socket.socket] | None = None
        if nudged:
            self._nudges = socket.socketpair()
            self._poll.register(self._nudges[0].fileno(), POLLIN)

    def wait(self, ready: Callable[[], _T], interruptible: bool = False) -> _T:
        """The first true value of `ready()`, which is called under the lock.

        Args:
            interruptible: on behalf of user code: in the main thread a CANCEL may raise while nothing is half done.

        Raises:
            LinkClosed: the connection ended. Cancelled: see `interruptible`.
        """
        with self._changed:
            while True:
                value = ready()
                if value:
                    return value
                if self._ended is not None:
                    raise LinkClosed(str(self._ended))
                if self._reading:
                    self._follow(interruptible)
                else:
                    self._lead(interruptible)

    def nudge(self) -> None:
        """Something other than a frame has changed: whoever reads looks again."""
        if self._nudges is not None:
            self._nudges[1].send(b"n")

    def _follow(self, interruptible: bool) -> None:
        self._followers += 1
        try:
            self._gate.resume(interruptible)
            self._changed.wait()
        finally:
            self._gate.pause()
            self._followers -= 1

    def _lead(self, interruptible: bool) -> None:
        self._reading = True
        self._changed.release()
        try:
            messages = self._receive(interruptible)
        except LinkClosed as error:
            self._ended = error
            raise
        finally:
            self._changed.acquire()
            self._reading = False
            if self._followers:
                self._changed.notify_all()
        try:
            for message in messages:
                self._router.dispatch(message)
        except LinkClosed as error:
            self._ended = error
            raise

    def _receive(self, interruptible: bool) -> list[Message]:
        if not interruptible and self._nudges is None:
            return self._link.receive()
        try:
            self._gate.resume(interruptible)
            ready = self._poll.poll()
        finally:
            self._gate.pause()
        if self._nudges is not None and any(fd != self._link.fd for fd, _ in ready):
            self._nudges[0].recv(64)
        return self._link.receive(socket.MSG_DONTWAIT)
