"""How many instances to start now for one version on this node. Pure; the caller acts.

After the decision in Fn's agent: counts in, a number and its reason out. What is already starting counts,
so a burst of callers starts what it needs once.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple


class Counts(NamedTuple):
    """What the pool sees. `slots`: calls at once in one instance."""

    waiting: int
    ready: int
    starting: int
    slots: int
    min: int
    max: int


class Start(NamedTuple):
    number: int
    reason: str


def decide(counts: Counts) -> Start:
    """Start enough for those who wait and for `min`, never beyond `max`, never what is starting already."""
    have = counts.ready + counts.starting
    for_waiting = ceil(counts.waiting / counts.slots) - counts.starting
    for_min = counts.min - have
    wanted = max(for_waiting, for_min)
    if wanted <= 0:
        return Start(0, "nobody waits for more than is starting")
    room = counts.max - have
    if room <= 0:
        return Start(0, f"at max ({counts.max})")
    reason = f"min is {counts.min}" if for_min >= for_waiting else f"{counts.waiting} waiting"
    return Start(min(wanted, room), reason)
