"""How long to wait after repeated failures. Pure."""

from __future__ import annotations

FREE_FAILURES = 2
"""Failures in a row that cost no wait: a single crash is replaced at once."""
FIRST_S = 0.5
CAP_S = 60.0
PLATFORM_CAP_S = 2.0
"""Longest wait after failures that are not the function's: whatever was away should be missed no longer than it is."""
LOOP_AT = 3
"""Failures in a row from which we call it a crash loop."""


def delay_s(failures: int, cap_s: float = CAP_S) -> float:
    """Seconds before the next start after `failures` in a row: 0, 0, 0.5, 1, 2, ... up to `cap_s`."""
    if failures <= FREE_FAILURES:
        return 0.0
    return min(cap_s, FIRST_S * 2.0 ** min(failures - FREE_FAILURES - 1, 20))


def is_loop(failures: int) -> bool:
    return failures >= LOOP_AT
