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
    known, which counts as TARGET_WAIT_S: one instance a waiting call. `head_s`: seconds the first in the queue has
    waited.
    """

    waiting: int
    ready: int
    starting: int
    slots: int
    min: int
    max: int
    service_s: float | None = None
    head_s: float = 0.0


class Start(NamedTuple):
    number: int
    reason: str


def is_standing(service_s: float | None, head_s: float) -> bool:
    """True when a queue is worth looking at. Cheap: asked at every wait.

    Quick calls queue for a moment all the time, and a full queue that moves is no reason to start anything: as in
    CoDel (RFC 8289), what counts is how long its first one has been waiting. Slow calls never drain in time.
    """
    return service_s is None or service_s >= TARGET_WAIT_S or head_s >= TARGET_WAIT_S


def decide(counts: Counts) -> Start:
    """Start enough for those who wait and for `min`, never beyond `max`, never what is starting already."""
    have = counts.ready + counts.starting
    for_min = counts.min - have
    for_waiting = _for_waiting(counts)
    wanted = max(for_waiting, for_min)
    if wanted <= 0:
        return Start(0, "what is ready or starting drains the queue in time")
    room = counts.max - have
    if room <= 0:
        return Start(0, f"at max ({counts.max})")
    reason = f"min is {counts.min}" if for_min >= for_waiting else f"{counts.waiting} waiting"
    return Start(min(wanted, room), reason)


def _for_waiting(counts: Counts) -> int:
    if counts.ready and not is_standing(counts.service_s, counts.head_s):
        return 0
    turns = TARGET_WAIT_S / (counts.service_s or TARGET_WAIT_S)
    left = counts.waiting - counts.ready * counts.slots * turns
    # A new instance takes its first calls at once, however long they last.
    return ceil(left / (counts.slots * max(1.0, turns))) - counts.starting
