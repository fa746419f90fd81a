"""How long to wait after repeated failures. Pure."""

from __future__ import annotations

FREE_FAILURES = 2
"""Failures in a row that cost no wait: a single crash is replaced at once."""
FIRST_S = 0.5
CAP_S = 60.0
LOOP_AT = 3
"""Failures in a row from which we call it a crash loop."""


def delay_s(failures: int) -> float:
    """Seconds before the next start after `failures` in a row: 0, 0, 0.5, 1, 2, ... up to CAP_S."""
    if failures <= FREE_FAILURES:
        return 0.0
    return min(CAP_S, FIRST_S * 2.0 ** min(failures - FREE_FAILURES - 1, 20))


def is_loop(failures: int) -> bool:
    return failures >= LOOP_AT
