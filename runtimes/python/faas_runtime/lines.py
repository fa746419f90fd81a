"""Output to log lines, bounded: no line longer than the limit, no more lines than the rate allows."""

from __future__ import annotations

from faas_runtime.protocol import LOG_BURST, LOG_LINE_MAX, LOG_RATE

_ROOM_FOR_NOTE = 48
_FRAME = 64  # what a line costs besides its text: a flood of empty lines is one too
_RESUME_AT = LOG_RATE // 4  # once something was dropped: a report four times a second, not one a line


class Splitter:
    """Bytes in, complete lines out. Holds at most one cut line."""

    __slots__ = ("_cut", "_held")

    def __init__(self) -> None:
        self._held = b""
        self._cut = 0

    @property
    def partial(self) -> bool:
        """True when the last line has no end yet."""
        return bool(self._held) or self._cut > 0

    def feed(self, data: bytes) -> list[bytes]:
        """Lines completed by `data`, without their ends, each within LOG_LINE_MAX."""
        *complete, last = data.split(b"\n")
        lines = []
        for piece in complete:
            self._hold(piece)
            lines.append(self._take())
        self._hold(last)
        return lines

    def flush(self) -> bytes | None:
        """The line without an end, or None."""
        return self._take() if self.partial else None

    def _hold(self, piece: bytes) -> None:
        room = LOG_LINE_MAX + 1 - len(self._held)  # one byte more tells a full line from a cut one
        self._held += piece[:room]
        self._cut += max(0, len(piece) - room)

    def _take(self) -> bytes:
        line = cut(self._held, self._cut)
        self._held, self._cut = b"", 0
        return line[:-1] if line.endswith(b"\r") else line


def cut(line: bytes, missing: int = 0) -> bytes:
    """`line` within LOG_LINE_MAX; what is cut, and `missing` bytes already gone, are counted in its end."""
    if len(line) <= LOG_LINE_MAX and not missing:
        return line
    keep = LOG_LINE_MAX - _ROOM_FOR_NOTE
    while keep > 0 and line[keep] & 0xC0 == 0x80:  # not in the middle of a character
        keep -= 1
    return line[:keep] + f"… [cut, {len(line) - keep + missing} bytes]".encode()


class Budget:
    """How much may be logged: LOG_RATE bytes a second, LOG_BURST at once. Counts what it refuses."""

    __slots__ = ("_at", "_left", "bytes", "lines")

    def __init__(self, now: float) -> None:
        self._left = float(LOG_BURST)
        self._at = now
        self.lines = 0
        self.bytes = 0

    def take(self, size: int, now: float) -> bool:
        """True when a line of `size` bytes may be sent at `now` (monotonic seconds); then `report` first."""
        self._refill(now)
        cost = size + _FRAME
        if self._left >= cost and not (self.lines and self._left < _RESUME_AT):
            self._left -= cost
            return True
        self.lines += 1
        self.bytes += size
        return False

    def due(self, now: float) -> bool:
        """True when something was dropped and there is room again to say so."""
        if not self.lines:
            return False
        self._refill(now)
        return self._left >= _RESUME_AT

    def _refill(self, now: float) -> None:
        self._left = min(float(LOG_BURST), self._left + (now - self._at) * LOG_RATE)
        self._at = now

    def report(self) -> str | None:
        """One line about what was dropped since the last report, or None."""
        if not self.lines:
            return None
        text = f"[dropped {self.lines} lines, {self.bytes} bytes]"
        self.lines = self.bytes = 0
        return text
