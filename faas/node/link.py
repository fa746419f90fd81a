"""The two connections of one instance, and their news in an order that makes sense.

Two sockets have no common order. A child's last replies can lie unread in the data connection when EXITED arrives on
the control connection; the next child's connection can arrive before either. Here they are put straight:

    last frames of the data connection > its end > the child has ended, with its cause > the next child
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from faas.errors import InstanceDied
from faas.node.connection import WELCOME, Connection
from faas.node.failures import died
from faas.wire import limits
from faas.wire import messages as m

BROKEN_S = 0.05
"""Seconds a child that broke the protocol has to be known dead before it is killed for it."""
EARLY_S = 1.0
"""Seconds to wait for the one piece of news that has to come before another."""


class Listener(Protocol):
    """Who the link reports to."""

    def on_connected(self) -> None:
        """Control and data stand: a child is there."""

    def on_control(self, message: m.Message) -> None:
        """A frame from the supervisor, EXITED excepted."""

    def on_data(self, message: m.Message) -> None:
        """A frame from the child."""

    def on_child_ended(self, error: InstanceDied) -> None:
        """The child is gone, and everything it said has been reported."""

    def on_lost(self, reason: str) -> None:
        """The supervisor is gone, and with it the instance."""


class Link:
    """See the module's docstring. Anything but the expected connections is refused."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._control: Connection | None = None
        self._data: Connection | None = None
        self._early: Connection | None = None
        self._death: InstanceDied | None = None
        self._expecting = True
        """No child is known to be alive: the next data connection is its."""
        self._child = 0
        self._ended = False

    @property
    def alive(self) -> bool:
        """True while a child is connected."""
        return self._data is not None

    def send(self, message: m.Message) -> None:
        """To the child; without one, nothing."""
        if self._data is not None:
            self._data.send(message)

    def send_control(self, message: m.Message) -> None:
        """To the supervisor; without one, nothing."""
        if self._control is not None:
            self._control.send(message)

    def close(self) -> None:
        """End every connection, reporting nothing more. Idempotent."""
        self._ended = True
        for connection in (self._data, self._control, self._early):
            if connection is not None:
                connection.close("instance ended")
        self._data = self._control = self._early = None

    def accept(self, connection: Connection, message: m.Message) -> None:
        """First frame of a new connection: only the ones we wait for may stay."""
        role = message[2] if message[0] == m.HELLO and message[1] == limits.PROTOCOL else None
        if self._ended:
            connection.close("instance ended")
        elif role == "control" and self._control is None:
            self._control = connection
            connection.on_message, connection.on_closed = self._on_control, self._control_closed
            connection.send(WELCOME)
            self._check()
        elif role == "data" and self._expecting:
            self._adopt(connection)
        elif role == "data" and self._early is None:
            self._early = connection
            connection.on_closed = self._early_closed
            asyncio.get_running_loop().call_later(EARLY_S, self._refuse_early, connection)
        else:
            connection.close("not expected")

    def _adopt(self, connection: Connection) -> None:
        self._data, self._expecting = connection, False
        connection.on_message, connection.on_closed = self._listener.on_data, self._data_closed
        connection.send(WELCOME)
        self._check()

    def _check(self) -> None:
        if self._control is not None and self._data is not None:
            self._listener.on_connected()

    def _early_closed(self, _reason: str) -> None:
        self._early = None

    def _refuse_early(self, connection: Connection) -> None:
        if self._early is connection:
            connection.close("not expected")

    def _on_control(self, message: m.Message) -> None:
        if message[0] != m.EXITED:
            self._listener.on_control(message)
            return
        self._death = died(message[1])
        if self._data is None:
            self._child_ended()
        else:
            asyncio.get_running_loop().call_later(EARLY_S, self._cut_off, self._child)

    def _control_closed(self, reason: str) -> None:
        self._control = None
        if not self._ended:
            self._listener.on_lost(reason)

    def _data_closed(self, reason: str) -> None:
        connection, self._data = self._data, None
        if self._ended:
            return
        if self._death is not None:
            self._child_ended()
        else:
            # EXITED follows and knows the cause. A child that only closed its socket, or broke the protocol, is killed,
            # but not at once: a KILL that crosses the news would hit the next child.
            broken = connection is not None and connection.broken
            asyncio.get_running_loop().call_later(
                BROKEN_S if broken else EARLY_S, self._kill_silent, self._child, reason
            )

    def _kill_silent(self, child: int, reason: str) -> None:
        if child == self._child and self._death is None:
            self.send_control(m.kill(f"the data connection ended: {reason}"))

    def _cut_off(self, child: int) -> None:
        """A process that outlived the child holds its connection open."""
        if child == self._child and self._data is not None:
            self._data.close("the child has ended")

    def _child_ended(self) -> None:
        error, self._death = self._death, None
        assert error is not None
        self._child += 1
        self._expecting = True
        self._listener.on_child_ended(error)
        connection, self._early = self._early, None
        if connection is not None and not self._ended:
            self._adopt(connection)
