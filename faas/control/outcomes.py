"""What the end of an attempt means for its job: done, tried again, given back, or dead. Pure but for the clock given.

reply < 400 -> succeeded    4xx -> failed (a repeat would end the same)    5xx, 429, raised, died, late -> retried
refused before it began -> given back: it does not count
"""

from __future__ import annotations

from typing import Any, NamedTuple

from faas.errors import (
    CallerError,
    CrashLoop,
    DeadlineExceeded,
    FaasError,
    FunctionError,
    InstanceDied,
    NoRoom,
    NotFound,
    Paused,
    TooLarge,
    TooManyRequests,
    Unavailable,
    problem,
)
from faas.model import Settings
from faas.node.failures import RetryAsked
from faas.policy import retry
from faas.store.queue.model import Attempt, Done, EndState, GiveBack, Job, Outcome, Result, Retry

_ELSEWHERE = (NoRoom, Unavailable, TooManyRequests, Paused, DeadlineExceeded)
"""Before an attempt has begun these say: not here, not now."""
_NO_SETTINGS = Settings()


class End(NamedTuple):
    """How an attempt ended. Times in Unix seconds. settings: of the version that ran; None: none was found."""

    job: Job
    node: str
    began: float
    now: float
    settings: Settings | None
    jitter: float
    """Uniform in [0, 1)."""


def replied(end: End, result: Result) -> Outcome:
    """The handler answered."""
    job, status = end.job, result.status
    if status < 400:
        return Done(id=job.id, take=job.take, result=result)
    cause = f"status {status}"
    if status < 500 and status != 429:
        return Done(id=job.id, take=job.take, state="failed", cause=cause, result=result, attempt=record(end, cause))
    asked = _retry_after(result, end.now)
    return _verdict(end, "raised" if asked is None else "asked", cause, asked, result)


def failed(end: End, error: FaasError, *, begun: bool) -> Outcome:
    """The attempt ended in an error, or could not begin."""
    job = end.job
    if not begun and isinstance(error, _ELSEWHERE):
        return GiveBack(id=job.id, take=job.take)
    result = Result(status=error.status, error=problem(error, call_id=job.id))
    asked = error.retry_after_s if isinstance(error, RetryAsked) else None
    return _verdict(end, _kind(error, begun), error.code, asked, result)


def interrupted(end: End, *, begun: bool, stopping: bool) -> Outcome:
    """Its task was cancelled: because the node stops, or because somebody asked for it."""
    job = end.job
    if stopping and not begun:
        return GiveBack(id=job.id, take=job.take)
    if stopping:
        return failed(end, Unavailable("the node stopped while it ran"), begun=True)
    return Done(
        id=job.id, take=job.take, state="cancelled", cause="cancelled while it ran", attempt=record(end, "cancelled")
    )


def record(end: End, cause: str, error: dict[str, Any] | None = None) -> Attempt:
    """What is remembered of a failed attempt."""
    return Attempt(
        number=end.job.attempt,
        node=end.node,
        started_ms=int(end.began * 1000),
        ended_ms=int(end.now * 1000),
        cause=cause,
        error=error,
    )


def _verdict(end: End, kind: retry.Kind, cause: str, asked: float | None, result: Result) -> Outcome:
    job, settings = end.job, end.settings or _NO_SETTINGS
    policy = retry.Policy(job.attempts, settings.retry_wait_s, settings.retry_factor, settings.retry_cap_s)
    verdict = retry.decide(policy, kind, job.attempt, end.jitter, asked)
    attempt = record(end, cause, result.error)
    if verdict.retry:
        return Retry(id=job.id, take=job.take, after_s=verdict.after_s, cause=cause, attempt=attempt)
    state: EndState = "failed" if kind == "caller" else "dead"
    return Done(id=job.id, take=job.take, state=state, cause=cause, result=result, attempt=attempt)


def _retry_after(result: Result, now: float) -> float | None:
    for name, value in result.headers:
        if name.lower() == b"retry-after":
            return retry.retry_after_s(value.decode("latin-1"), now)
    return None


def _kind(error: FaasError, begun: bool) -> retry.Kind:
    if isinstance(error, NotFound) and not begun:
        return "platform"  # removed, or not yet known to this node: it may be there for the next attempt
    if isinstance(error, CallerError):
        return "caller"
    if isinstance(error, DeadlineExceeded):
        return "timeout"
    if isinstance(error, InstanceDied | CrashLoop):
        return "crash"
    return "raised" if isinstance(error, FunctionError) else "platform"


def too_large(limit: str) -> TooLarge:
    """For a result that cannot be kept: an error of the caller's kind, since a repeat would be as large."""
    return TooLarge(
        f"the result is larger than {limit}, the limit for calls whose result is kept",
        hint="Store it elsewhere and return where, or call the function synchronously.",
    )
