"""A function's log on disk: NDJSON segments in one directory, the oldest deleted first. Everything blocks.

    DIR/<milliseconds of its start, 14 digits>-<number, 6 digits>.ndjson

A process always starts a new segment, so a line torn by a crash never grows into another one; lines that
cannot be read are skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import deque
from pathlib import Path

import msgspec

from faas.model import LogLine
from faas.telemetry.logfilter import LogFilter

_SEGMENTS = 8
_SUFFIX = ".ndjson"
_CLOCK_SLACK_MS = 60_000
_decode = msgspec.json.Decoder(LogLine).decode


class LogFiles:
    """The segments of one function.

    Args:
        directory: made at the first write.
        max_bytes: of all segments together.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._dir = directory
        self._max_bytes = max_bytes
        self._segment_max = max(1, max_bytes // _SEGMENTS)
        self._current: Path | None = None
        self._size = 0
        self._number = 0

    def append(self, data: bytes) -> None:
        """Whole lines. Raises OSError; then a part may have been kept, but no part of a line."""
        while data:
            room = self._segment_max if self._current is None else self._segment_max - self._size
            stop = data.rfind(b"\n", 0, max(room, 0)) + 1
            if not stop and self._current is not None and self._size:
                self._current = None
                continue
            stop = stop or data.index(b"\n") + 1
            try:
                self._write(data[:stop])
            except OSError:
                self._current = None  # the directory may be gone: begin anew next time
                raise
            data = data[stop:]

    def _write(self, data: bytes) -> None:
        path = self._current = self._current or self._begin()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            before = os.fstat(fd).st_size
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            except OSError:
                os.ftruncate(fd, before)
                raise
        finally:
            os.close(fd)
        self._size = before + len(data)

    def read(self, wanted: LogFilter, limit: int) -> list[LogLine]:
        """The last `limit` lines that `wanted` accepts, oldest first."""
        found: deque[LogLine] = deque()
        for path in reversed(self._segments()):
            try:
                if path.stat().st_mtime * 1000 < wanted.since_ms - _CLOCK_SLACK_MS:
                    break
                text = path.read_bytes()
            except FileNotFoundError:
                continue
            found.extendleft(_last(text, wanted, limit - len(found)))
            if len(found) >= limit:
                break
        return list(found)

    def sweep(self, max_age_s: float, now: float) -> None:
        """Delete segments last written more than `max_age_s` before `now` (Unix seconds), and what is too much."""
        for path in self._segments():
            if now - path.stat().st_mtime > max_age_s:
                path.unlink(missing_ok=True)
                if path == self._current:
                    self._current = None
        self._trim()
        with contextlib.suppress(OSError):
            self._dir.rmdir()  # succeeds only when nothing is left

    def remove(self) -> None:
        """Delete the whole log."""
        self._current = None
        shutil.rmtree(self._dir, ignore_errors=True)

    def _begin(self) -> Path:
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._trim()
        self._number += 1
        self._size = 0
        return self._dir / f"{int(time.time() * 1000):014d}-{self._number:06d}{_SUFFIX}"

    def _trim(self) -> None:
        """Leave room for one more segment."""
        sizes = [(path, path.stat().st_size) for path in self._segments()]
        total = sum(size for _, size in sizes)
        for path, size in sizes:
            if total <= self._max_bytes - self._segment_max or path == self._current:
                break
            path.unlink(missing_ok=True)
            total -= size

    def _segments(self) -> list[Path]:
        try:
            names = sorted(entry.name for entry in os.scandir(self._dir) if entry.name.endswith(_SUFFIX))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [self._dir / name for name in names]


def _last(text: bytes, wanted: LogFilter, limit: int) -> list[LogLine]:
    """Newest first."""
    found: list[LogLine] = []
    call = wanted.call.encode()
    for raw in reversed(text.split(b"\n")):
        if len(found) >= limit:
            break
        if not raw or call not in raw:
            continue
        try:
            line = _decode(raw)
        except msgspec.MsgspecError:
            continue
        if wanted.accepts(line):
            found.append(line)
    return found
