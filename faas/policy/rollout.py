"""May a new version get more calls, must it go back, or is there too little to tell? Pure; the leader acts.

What the nodes saw of both versions during the present step goes in, what to do and why comes out:

    a gate breaks, or can no longer hold -> REVERT
    the step's time is over, both have their sample, all gates hold -> ADVANCE
    its time is long over and a sample is still missing -> PAUSE
    else -> WAIT
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

PATIENCE = 4
"""Times a step's own time that a missing sample is waited for."""
SLACK_S = 0.005
"""Seconds that a slower p95 is forgiven whatever its share: below that a machine's own noise is larger."""
FIRST_S, GROWTH = 1e-4, 1.05
"""Upper bound of the first bucket in seconds, and of each over the one before: quantiles are good to 5 %."""
LAST = math.ceil(math.log(1e5 / FIRST_S, GROWTH))
"""The last bucket: it also holds what takes longer than a day."""


class Seen(msgspec.Struct, array_like=True):
    """Calls of one version: plain numbers that add up over nodes."""

    calls: int = 0
    errors: int = 0
    """Of them, those that failed by the function's or the platform's fault."""
    times: dict[int, int] = {}
    """Histogram of calls that were answered, by `bucket_of`; cold starts and queueing not counted."""

    def add(self, seconds: float | None, *, failed: bool) -> None:
        """Count one call; `seconds` None: it says nothing about how long calls take."""
        self.calls += 1
        self.errors += failed
        if seconds is not None:
            bucket = bucket_of(seconds)
            self.times[bucket] = self.times.get(bucket, 0) + 1

    @property
    def error_rate(self) -> float:
        return self.errors / self.calls if self.calls else 0.0

    def quantile(self, share: float) -> float | None:
        """Seconds that `share` of the calls stayed below; None without any."""
        rest = share * sum(self.times.values())
        for bucket in sorted(self.times):
            count = self.times[bucket]
            if rest <= count:
                low = FIRST_S * GROWTH ** (bucket - 1) if bucket else 0.0
                return low + (FIRST_S * GROWTH**bucket - low) * rest / count
            rest -= count
        return None


def bucket_of(seconds: float) -> int:
    """The bucket of a duration."""
    if seconds <= FIRST_S:
        return 0
    return min(LAST, math.ceil(math.log(seconds / FIRST_S, GROWTH)))


def total(parts: Iterable[Seen]) -> Seen:
    """The sum of what several nodes saw."""
    result = Seen(times={})
    for part in parts:
        result.calls += part.calls
        result.errors += part.errors
        for bucket, count in part.times.items():
            result.times[bucket] = result.times.get(bucket, 0) + count
    return result


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """What a new version must keep to, measured against the live one over the same time."""

    max_errors: float | None = 0.01
    """Most that its share of failed calls may be above the live version's; 0.01: one call in a hundred. None: any."""
    max_p95: float | None = 0.2
    """Most that its 95th percentile may be above the live version's, as a share of it. None: any."""
    min_sample: int = 100
    """Calls of each version that a step needs; 0: none, time alone counts."""


class Action(enum.Enum):
    WAIT = "wait"
    ADVANCE = "advance"
    PAUSE = "pause"
    REVERT = "revert"


class Decision(NamedTuple):
    action: Action
    reason: str


def decide(gates: Gates, every_s: float, waited_s: float, live: Seen, new: Seen, *, paused: bool = False) -> Decision:
    """What becomes of a rollout now.

    Args:
        every_s, waited_s: seconds a step lasts, and has lasted.
        live, new: what was seen of both versions in this step.
        paused: only a broken gate does something.
    """
    if breach := _breach(gates, live, new):
        return Decision(Action.REVERT, breach)
    if paused or waited_s < every_s:
        return Decision(Action.WAIT, "paused" if paused else f"{every_s - waited_s:.0f} s left in this step")
    for what, seen in (("the new version", new), ("the live version", live)):
        if seen.calls < gates.min_sample:
            missing = f"{what} had {seen.calls} of {gates.min_sample} calls in {waited_s:.0f} s"
            late = waited_s >= every_s * PATIENCE
            return Decision(Action.PAUSE if late else Action.WAIT, f"no data: {missing}" if late else missing)
    return Decision(Action.ADVANCE, _comparison(live, new))


def _breach(gates: Gates, live: Seen, new: Seen) -> str:
    """Which gate is broken, or cannot hold whatever comes until the sample is whole; empty: none."""
    if live.calls < gates.min_sample or not new.calls or not live.calls:
        return ""
    if gates.max_errors is not None:
        allowed = live.error_rate + gates.max_errors
        # Even if every call that is missing from the sample should succeed.
        least = new.errors / max(new.calls, gates.min_sample)
        if least > allowed:
            return (
                f"errors: {new.errors} of {new.calls} calls failed ({new.error_rate:.1%}), the live version's "
                f"{live.error_rate:.1%} and {gates.max_errors:.1%} more are allowed"
            )
    if gates.max_p95 is not None and new.calls >= gates.min_sample:
        before, after = live.quantile(0.95), new.quantile(0.95)
        if before is not None and after is not None and after > max(before * (1 + gates.max_p95), before + SLACK_S):
            return (
                f"p95: {after * 1000:.1f} ms, {after / before - 1:+.0%} against the live version's "
                f"{before * 1000:.1f} ms; {gates.max_p95:+.0%} is allowed"
            )
    return ""


def _comparison(live: Seen, new: Seen) -> str:
    parts = [f"{new.calls} calls, errors {new.error_rate:.1%} (live {live.error_rate:.1%})"]
    before, after = live.quantile(0.95), new.quantile(0.95)
    if before is not None and after is not None:
        parts.append(f"p95 {after * 1000:.1f} ms (live {before * 1000:.1f} ms)")
    return ", ".join(parts)
