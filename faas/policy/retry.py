"""Whether a failed attempt is followed by another, and after how long. Pure.

Exponential back-off with full jitter, after Marc Brooker, "Exponential Backoff and Jitter" (AWS, 2015): a uniform draw
between 0 and the back-off spreads a crowd of retries better than any fixed fraction does.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

Kind = Literal["caller", "raised", "crash", "timeout", "platform", "asked"]
"""caller: the request is wrong. raised: the handler raised, or replied 5xx. crash: its process ended. timeout: its
deadline passed. platform: ours. asked: the handler asked for it, by `Retry` or by `Retry-After` in a 429 or 503."""

AFTER_MAX_S = 24 * 3600.0
"""Longest wait that a handler may ask for, in seconds."""


class Policy(NamedTuple):
    """A function's retries. `attempts`: all of them, the first included. `first_s * factor**n`, at most `cap_s`."""

    attempts: int = 3
    first_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 300.0
    raised: bool = True
    """Whether a handler that raised is tried again."""


class Verdict(NamedTuple):
    """`retry` after `after_s` seconds, or not; and why."""

    retry: bool
    after_s: float
    reason: str


def decide(policy: Policy, kind: Kind, attempt: int, jitter: float, asked_s: float | None = None) -> Verdict:
    """What follows the failure of attempt number `attempt`.

    Args:
        attempt: counts from 1.
        jitter: uniform in [0, 1).
        asked_s: seconds the handler asked to wait; it may lengthen the wait to AFTER_MAX_S, and no jitter shortens it.
    """
    if kind == "caller":
        return Verdict(False, 0.0, "the request is wrong: a repeat would fail the same way")
    if kind == "raised" and not policy.raised and asked_s is None:
        return Verdict(False, 0.0, "the handler raised, and the function says not to retry that")
    if attempt >= policy.attempts:
        return Verdict(False, 0.0, f"attempt {attempt} of {policy.attempts} was the last")
    if asked_s is not None:
        return Verdict(True, min(max(asked_s, 0.0), AFTER_MAX_S), "the handler asked for it")
    wait = jitter * ceiling_s(policy, attempt)
    return Verdict(True, wait, f"{kind}: attempt {attempt} of {policy.attempts}")


def ceiling_s(policy: Policy, attempt: int) -> float:
    """Longest wait after attempt number `attempt`, in seconds."""
    try:
        return min(policy.cap_s, policy.first_s * policy.factor ** (attempt - 1))
    except OverflowError:
        return policy.cap_s


def retry_after_s(value: str, now: float) -> float | None:
    """Seconds from a `Retry-After` header: a number of seconds or an HTTP date; None when it is neither.

    Args:
        now: Unix seconds.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
