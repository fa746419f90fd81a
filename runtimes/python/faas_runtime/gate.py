"""When a CANCEL may raise in the main thread: in user code only, once a call, and only in the call it is for."""

from __future__ import annotations

import threading
from typing import Any

from faas import Cancelled
from faas_runtime.page import Page


class Gate:
    """Closed while our own code runs, so that no frame is left half written. Works in the main thread only.

    The node's CANCEL reaches the supervisor, which writes the stream into the page and sends a signal; the
    handler of that signal raises if the gate is open, else the next opening does.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._main = threading.get_ident()
        self._stream = 0
        self._open = False
        self._pending = False
        self._raised = False

    @property
    def cancelled(self) -> bool:
        """The running call is no longer wanted."""
        return self._pending or self._raised

    def begin(self, stream: int) -> None:
        """A call starts; a CANCEL for it may have come before."""
        self._raised = False
        self._stream = stream
        self._pending = self._page.cancelled == stream

    def end(self) -> None:
        self._stream = 0
        self._open = self._pending = False

    def pause(self) -> bool:
        """Close; returns what `resume` needs to know."""
        if not self._open or threading.get_ident() != self._main:
            return False
        self._open = False
        return True

    def resume(self, was_open: bool) -> None:
        """Open again if it was. Raises Cancelled when a CANCEL came meanwhile."""
        if was_open:
            self._open = True
            if self._pending:
                self._raise()

    def cancel(self) -> None:
        """A CANCEL that came over the data connection."""
        self._pending = not self._raised

    def on_signal(self, _number: int, _frame: Any) -> None:
        """The signal's handler; runs in the main thread between two steps of whatever it does."""
        if self._stream and not self._raised and self._page.cancelled == self._stream:
            self._pending = True
            if self._open:
                self._raise()

    def _raise(self) -> None:
        self._pending, self._raised = False, True
        self._open = False
        raise Cancelled("the call was cancelled: its deadline has passed or its caller is gone")
