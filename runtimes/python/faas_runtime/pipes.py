"""What the child writes to file descriptors 1 and 2, read by the supervisor and sent as LOG.

Never by a thread of the child: C code that fills a pipe while it holds the interpreter would wait for itself.
"""

from __future__ import annotations

import os
import time

from faas_runtime.control import Control
from faas_runtime.lines import Budget, Splitter
from faas_runtime.page import Page
from faas_runtime.protocol import LOG, Message

_READ = 64 * 1024
LEVELS = {1: "stdout", 2: "stderr"}


class Pipe:
    """The reading end of one of the child's output descriptors. `number` is 1 or 2."""

    def __init__(self, number: int, fd: int, page: Page, control: Control, budget: Budget) -> None:
        self.number = number
        self.fd = fd
        self.open = True
        self._page = page
        self._control = control
        self._budget = budget
        self._lines = Splitter()
        self._reads = 0
        os.set_blocking(fd, False)

    def read(self) -> bool:
        """Send what is there, at most one buffer; False when nothing was, or the other end is closed.

        The child looks whether the pipe is empty and then whether we are busy, in this order: so busy comes
        before the read, and goes when all has been written to the node.
        """
        self._page.busy = True
        try:
            data = os.read(self.fd, _READ)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data:
            self._send(self._lines.feed(data))
            self._page.set_partial(self.number, self._lines.partial)
        elif data is not None:
            self.open = False
        self._reads += 1
        if not self._control.waiting:
            self.sent()
            self._page.busy = False
        return bool(data)

    def sent(self) -> None:
        """The node's connection has taken all that was read."""
        if self._reads:
            self._page.count(self.number, self._reads)
            self._reads = 0

    def finish(self) -> None:
        """Send all that is left, once nobody writes any more, and close."""
        while self.open and self.read():
            pass
        last = self._lines.flush()
        if last is not None:
            self._send([last])
        self.report()
        self.close()

    def close(self) -> None:
        os.close(self.fd)

    def report(self) -> None:
        """Say what was dropped, if anything was."""
        text = self._budget.report()
        if text:
            self._control.send([LOG, self._page.call, "warning", int(time.time() * 1000), text, {}])

    def _send(self, lines: list[bytes]) -> None:
        now, time_ms, call = time.monotonic(), int(time.time() * 1000), self._page.call
        frames: list[Message] = []
        for line in lines:
            if self._budget.take(len(line) + 1, now):
                text = self._budget.report()
                if text:
                    frames.append([LOG, call, "warning", time_ms, text, {}])
                frames.append([LOG, call, LEVELS[self.number], time_ms, line.decode("utf-8", "replace"), {}])
        if frames:
            self._control.send(*frames)
