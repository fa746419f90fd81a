"""How many calls to send to a busy instance before it has answered the ones it has. Pure.

An instance that sleeps between two quick calls spends more time waking up than working. Sending the next calls ahead
keeps it awake, at the price that they wait there and not here, where another instance could take them. So only
for functions whose every recent call was quick, and never more work than AHEAD_S.
"""

from __future__ import annotations

AHEAD_MAX = 16
AHEAD_S = 0.005
"""Seconds of work sent ahead at most."""
QUICK_S = 0.005
"""Seconds that the slowest recent call may have taken."""
FADE = 0.999
"""What a call keeps of the slowest one before it: a call of 30 s is forgotten after about 9,000 quick ones."""


def slowest(before_s: float, call_s: float) -> float:
    """The slowest recent call after one more of `call_s` seconds."""
    return max(call_s, before_s * FADE)


def ahead(service_s: float | None, slowest_s: float) -> int:
    """Calls to send beyond the first. service_s: seconds a call takes, smoothed; None: not known."""
    if service_s is None or slowest_s > QUICK_S:
        return 0
    return min(AHEAD_MAX, int(AHEAD_S / max(service_s, 1e-6)))
