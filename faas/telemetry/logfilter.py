"""Which lines of a function's log a reader wants. Pure."""

from __future__ import annotations

from typing import NamedTuple

from faas.errors import Invalid
from faas.model import LogLine

_RANK = {"debug": 0, "info": 1, "stdout": 1, "warning": 2, "stderr": 2, "error": 3, "critical": 4}
_STREAMS = ("stdout", "stderr")
LIMIT_MAX = 10_000
"""Most lines one read may ask for."""
GREP_MAX = 1_000


class LogFilter(NamedTuple):
    """What to let through. Empty fields let everything through; see `log_filter`."""

    call: str = ""
    since_ms: int = 0
    level: str = ""
    grep: str = ""

    def accepts(self, line: LogLine) -> bool:
        if line.time_ms < self.since_ms or (self.call and line.call != self.call):
            return False
        if self.level in _STREAMS and line.level != self.level:
            return False
        if self.level and _RANK.get(line.level, 1) < _RANK[self.level]:
            return False
        return self.grep in line.text


def log_filter(call: str, since_ms: int, level: str, grep: str) -> LogFilter:
    """A checked filter.

    Args:
        since_ms: Unix milliseconds; older lines are left out.
        level: this level and worse (`stdout` counts as info, `stderr` as warning); `stdout` and `stderr`
            themselves mean only those.
        grep: text a line must contain, as it is.

    Raises:
        Invalid: an unknown level, a negative time, or a text longer than GREP_MAX characters.
    """
    if level and level not in _RANK:
        raise Invalid(f'"{level[:80]}" is not a log level: {", ".join(_RANK)}')
    if since_ms < 0:
        raise Invalid(f"since_ms is {since_ms}: Unix milliseconds are not negative")
    if len(grep) > GREP_MAX:
        raise Invalid(f"grep has {len(grep)} characters: the limit is {GREP_MAX}")
    return LogFilter(call, since_ms, level, grep)


def check_limit(limit: int, least: int = 1) -> int:
    """`limit` itself. Raises Invalid outside of `least` to LIMIT_MAX."""
    if not least <= limit <= LIMIT_MAX:
        raise Invalid(f"limit is {limit}: {least} to {LIMIT_MAX} lines")
    return limit
