"""The child's output: `print` and logging as LOG frames with the call's id, raw output drained before a call ends."""

from __future__ import annotations

import faulthandler
import fcntl
import io
import logging
import os
import sys
import termios
import threading
import time
from collections.abc import Iterator
from typing import Any

from faas._context import calling

from faas_runtime import linux
from faas_runtime.gate import Gate
from faas_runtime.lines import Budget, Splitter, cut
from faas_runtime.link import Link
from faas_runtime.page import Page
from faas_runtime.protocol import LOG, LinkClosed

DRAIN_S = 1.0
_FIELDS = 32
_VALUE = 1000
_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Output:
    """Where all log lines of the child go out. `lone` is the id of the only call that can be running, if so."""

    def __init__(self, link: Link, page: Page, fds: dict[int, int], gate: Gate) -> None:
        self.link = link
        self.lone = ""
        self.gate = gate
        self.forked = False
        self._page = page
        self._fds = fds
        self._budget = Budget(time.monotonic())
        self._count = bytearray(4)
        self._writers: list[Writer] = []
        os.register_at_fork(after_in_child=self._in_fork)

    def install(self) -> None:
        """Replace sys.stdout and sys.stderr, and give logging its root handler at level INFO."""
        out, err = Writer(self, 1, "stdout"), Writer(self, 2, "stderr")
        self._writers = [out, err]
        sys.stdout, sys.stderr = out, err
        sys.__stdout__, sys.__stderr__ = out, err  # type: ignore[misc, assignment]
        logging.root.addHandler(LogHandler(self))
        logging.root.setLevel(logging.INFO)
        faulthandler.enable(file=2, all_threads=False)

    def call_id(self) -> str:
        """Id of the call the running code belongs to, empty where it cannot be known."""
        context = calling.get()
        return self.lone if context is None else context.call_id

    def line(self, call_id: str, level: str, text: bytes, fields: dict[str, Any]) -> None:
        """Send one line, or count it as dropped. A broken connection is the business of whoever serves calls."""
        text = cut(text)
        if not self._budget.take(len(text) + 1, time.monotonic()):
            return
        try:
            self._report(call_id)
            self.link.send([LOG, call_id, level, int(time.time() * 1000), text.decode("utf-8", "replace"), fields])
        except LinkClosed:
            pass

    def _report(self, call_id: str) -> None:
        text = self._budget.report()
        if text:
            self.link.send([LOG, call_id, "warning", int(time.time() * 1000), text, {}])

    def finish(self, call_id: str, raw: bool = True) -> Iterator[float]:
        """Everything the call printed goes out; yields seconds to sleep while raw output is on its way.

        A process in the background may write without end: so what counts is that the supervisor has emptied
        both pipes since, and DRAIN_S bounds even that. Raises LinkClosed.

        Args:
            raw: False while other calls run: raw output may be theirs, and need not end.
        """
        if self.forked:
            os._exit(0)  # a copy of us, made by the handler, has come back from it: only the original answers
        for writer in self._writers:
            writer.finish(call_id)
        linux.flush_stdout()
        if self._budget.lines:
            self._report(call_id)
        if not raw or (self._drained() and not self._end_line()):
            return
        before = self._page.counts()
        until, pause = time.monotonic() + DRAIN_S, 0.00002
        while time.monotonic() < until and not self._emptied_since(before):
            yield pause
            pause = min(pause * 2, 0.002)
            if self._drained() and not self._end_line():
                return

    def _emptied_since(self, before: tuple[int, ...]) -> bool:
        """What was in the pipes then is out, although more keeps coming.

        One read takes all a pipe holds, and one may have been under way: three are enough. The supervisor reads
        both pipes in turn, so a pipe that is empty while the other one had three is done too.
        """
        reads = [now - then for now, then in zip(self._page.counts(), before)]
        return max(reads) >= 3 and all(
            reads[number - 1] >= 3 or not self._holds(fd) for number, fd in self._fds.items()
        )

    def _drained(self) -> bool:
        """The pipes are empty, and then, in this order, the supervisor has sent what it took out of them."""
        return not any(map(self._holds, self._fds.values())) and not self._page.busy

    def _holds(self, fd: int) -> bool:
        """Something is in the pipe. One that the handler has closed holds nothing that could come out."""
        try:
            fcntl.ioctl(fd, termios.FIONREAD, self._count)
        except OSError:
            return False
        return self._count != b"\0\0\0\0"

    def _end_line(self) -> bool:
        """Complete a raw line that has no end; True when there was one."""
        ended = False
        for number, fd in self._fds.items():
            if self._page.partial(number):
                try:
                    os.write(fd, b"\n")
                    ended = True
                except OSError:
                    pass
        return ended

    def _in_fork(self) -> None:
        """A process the handler forked keeps its raw output and loses the connection."""
        self.forked = True
        self.link.close()


class Writer(io.TextIOBase):
    """sys.stdout and sys.stderr: whole lines become LOG frames; `.buffer` and `.fileno()` are the raw descriptor."""

    encoding = "utf-8"
    errors = "backslashreplace"
    line_buffering = True
    mode = "w"

    def __init__(self, output: Output, number: int, level: str) -> None:
        self._output = output
        self._number = number
        self._level = level
        self._lock = threading.RLock()
        self._open: dict[str, Splitter] = {}
        self.name = f"<{level}>"
        self.buffer = io.BufferedWriter(io.FileIO(number, "w", closefd=False))

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        data = text.encode("utf-8", "backslashreplace")
        if self._output.forked:
            os.write(self._number, data)
            return len(text)
        was = self._output.gate.pause()
        try:
            with self._lock:
                self._write(data)
        finally:
            self._output.gate.resume(was)
        return len(text)

    def _write(self, data: bytes) -> None:
        call_id = self._output.call_id()
        splitter = self._open.pop(call_id, None) or Splitter()
        for line in splitter.feed(data):
            self._output.line(call_id, self._level, line, {})
        if splitter.partial:
            self._open[call_id] = splitter

    def finish(self, call_id: str) -> None:
        """The call ends: send its line without an end, and what was written to `.buffer`."""
        splitter = self._open.pop(call_id, None)
        if splitter is not None:
            self._output.line(call_id, self._level, splitter.flush() or b"", {})
        self._flush_raw()

    def flush(self) -> None:
        """Raw bytes go out; an incomplete line waits for its end or the call's."""
        self._flush_raw()

    def _flush_raw(self) -> None:
        try:
            self.buffer.flush()
        except (OSError, ValueError):
            pass  # the handler closed the descriptor or the buffer

    def fileno(self) -> int:
        return self._number

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def reconfigure(self, **_options: Any) -> None:
        """Accepted for the sake of programs that do it; the encoding stays UTF-8."""

    def close(self) -> None:
        """Stays open: the next call needs it."""


class LogHandler(logging.Handler):
    """Records of every logger as LOG frames, with `extra` as fields."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            fields = _fields(record)
        except Exception:
            self.handleError(record)
            return
        output = self._output
        if output.forked:
            os.write(2, text.encode("utf-8", "backslashreplace") + b"\n")
            return
        was = output.gate.pause()
        try:
            output.line(output.call_id(), _level(record.levelno), text.encode("utf-8", "backslashreplace"), fields)
        finally:
            output.gate.resume(was)


def _level(number: int) -> str:
    for least, name in ((50, "critical"), (40, "error"), (30, "warning"), (20, "info")):
        if number >= least:
            return name
    return "debug"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave as `extra`, bounded, and the logger's name."""
    fields: dict[str, Any] = {} if record.name == "root" else {"logger": record.name[:_VALUE]}
    for name, value in vars(record).items():
        if name not in _PLAIN and len(fields) < _FIELDS:
            fields[str(name)[:64]] = _plain(value)
    return fields


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, float)):
        return value
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    text = value if type(value) is str else repr(value)
    return text if len(text) <= _VALUE else text[:_VALUE] + "…"
