"""Lines between the event loop and their readers: bounded queues that lose visibly. No I/O."""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from faas.model import LogLine
from faas.telemetry.logfilter import LogFilter
from faas.wire.limits import LOG_LINE_MAX

_ENCODED_MAX = 4 * LOG_LINE_MAX
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(LogLine).decode


class LogBuffer:
    """Encoded lines of one function that are not on disk yet, and the count of those it had no room for.

    Args:
        max_bytes: most bytes it holds.
    """

    def __init__(self, max_bytes: int) -> None:
        self.lines: list[LogLine] = []
        self.size = 0
        self._encoded: list[bytes] = []
        self._max_bytes = max_bytes
        self._dropped = 0
        self._dropped_bytes = 0

    def __bool__(self) -> bool:
        return bool(self.lines or self._dropped)

    def add(self, line: LogLine, text: bytes) -> int:
        """Bytes it grew by: 0 when the line was dropped. `text` is the encoded line."""
        size = len(text) + 1
        if self.size + size > self._max_bytes:
            self.drop(1, size)
            return 0
        self.lines.append(line)
        self._encoded.append(text)
        self.size += size
        return size

    def drop(self, lines: int, size: int) -> None:
        """Count lines that will not be stored."""
        self._dropped += lines
        self._dropped_bytes += size

    @property
    def counts(self) -> tuple[int, int]:
        """Lines and bytes that came in, dropped ones included."""
        return len(self.lines) + self._dropped, self.size + self._dropped_bytes

    def ndjson(self, time_ms: int) -> bytes:
        """What it holds; a last line tells what was dropped."""
        if self._dropped:
            text = f"[dropped {self._dropped} lines, {self._dropped_bytes} bytes: more than can be stored]"
            note = _encode(LogLine(time_ms=time_ms, text=text, level="warning"))
            return b"".join(line + b"\n" for line in (*self._encoded, note))
        return b"".join(line + b"\n" for line in self._encoded)


class Follower:
    """Live lines for one reader. A reader that is too slow loses the newest and is told how many."""

    def __init__(self, wanted: LogFilter, most: int) -> None:
        self._wanted = wanted
        self._most = most
        self._lines: deque[LogLine] = deque()
        self._lost = 0
        self._ring = asyncio.Event()
        self._closed = False

    def push(self, line: LogLine) -> None:
        if not self._wanted.accepts(line):
            return
        if len(self._lines) >= self._most:
            self._lost += 1
            return
        self._lines.append(line)
        self._ring.set()

    def close(self) -> None:
        """Let the reader have what is there, then end."""
        self._closed = True
        self._ring.set()

    async def next(self) -> LogLine | None:
        """The next line; None at the end."""
        while not self._lines:
            if self._closed:
                return None
            self._ring.clear()
            await self._ring.wait()
        line = self._lines.popleft()
        if self._lost and not self._lines:
            text = f"[skipped {self._lost} lines: this reader is too slow]"
            self._lines.append(LogLine(time_ms=line.time_ms, text=text, level="warning"))
            self._lost = 0
        return line


def prepare(line: LogLine) -> tuple[LogLine, bytes]:
    """A line as it is stored, and its JSON. Too long, or not sayable in JSON: cut visibly.

    The instance keeps its own limits; this is for one that does not.
    """
    try:
        text = _encode(line)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        line = msgspec.structs.replace(line, fields={"unreadable": type(error).__name__}, text=_plain(line.text))
        text = _encode(line)
    if len(text) <= _ENCODED_MAX:
        # Fields are read back, so that live readers see what later ones will: JSON, no bytes, no NaN.
        return (_decode(text) if line.fields else line), text
    cut = line.text.encode()[:LOG_LINE_MAX].decode("utf-8", "ignore")
    note = f"… [cut, {len(text)} bytes with fields]"
    line = msgspec.structs.replace(line, text=cut + note, fields={})
    return line, _encode(line)


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
