"""How many instances to start now for one version on this node. Pure; the caller acts.

After the decision in Fn's agent: counts in, a number and its reason out. What is already starting counts, and
so does what the ready ones will get done soon: a queue that drains within `target_wait` starts nothing.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

TARGET_WAIT_S = 0.05
"""Seconds a call may wait for a slot before more instances are worth their start."""


class Counts(NamedTuple):
    """What the pool sees.

    `slots`: calls at once in one instance. `service_s`: seconds a call holds its slot; None while nothing is
    known, which counts as TARGET_WAIT_S: one instance a waiting call.
    """

    waiting: int
    ready: int
    starting: int
    slots: int
    min: int
    max: int
    service_s: float | None = None


class Start(NamedTuple):
    number: int
    reason: str


def drains_in_time(waiting: int, ready: int, slots: int, service_s: float | None) -> bool:
    """True when `ready` instances finish what waits within TARGET_WAIT_S. Cheap: asked at every wait."""
    return waiting * (service_s or TARGET_WAIT_S) <= ready * slots * TARGET_WAIT_S


def decide(counts: Counts) -> Start:
    """Start enough for those who wait and for `min`, never beyond `max`, never what is starting already."""
    have = counts.ready + counts.starting
    turns = TARGET_WAIT_S / (counts.service_s or TARGET_WAIT_S)
    left = counts.waiting - counts.ready * counts.slots * turns
    # A new instance takes its first calls at once, however long they last.
    for_waiting = ceil(left / (counts.slots * max(1.0, turns))) - counts.starting
    for_min = counts.min - have
    wanted = max(for_waiting, for_min)
    if wanted <= 0:
        return Start(0, "what is ready or starting drains the queue in time")
    room = counts.max - have
    if room <= 0:
        return Start(0, f"at max ({counts.max})")
    reason = f"min is {counts.min}" if for_min >= for_waiting else f"{counts.waiting} waiting"
    return Start(min(wanted, room), reason)
