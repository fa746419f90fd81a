"""What the end of an attempt means for its job."""

from __future__ import annotations

import pytest

from faas.control import outcomes
from faas.control.outcomes import End
from faas.errors import (
    BadRequest,
    CrashLoop,
    DeadlineExceeded,
    FaasError,
    HandlerRaised,
    InstanceDied,
    Internal,
    NoRoom,
    NotFound,
    Paused,
    StartFailed,
    TooManyRequests,
    Unavailable,
)
from faas.model import Settings
from faas.node.failures import RetryAsked, error_from
from faas.store.queue.model import Done, GiveBack, Job, Result, Retry
from faas.store.queue.model import Input as Given

NOW = 1_700_000_000.0


def end(attempt: int = 1, jitter: float = 0.5) -> End:
    job = Job(
        id="c-1", function="default/f", take=4, attempt=attempt, attempts=3, accepted_ms=0, expires_ms=0,
        input=Given(target="f"),
    )  # fmt: skip
    return End(job, "n-1", NOW - 2, NOW, Settings(retry_wait_s=8.0), jitter)


@pytest.mark.parametrize("status", [200, 204, 302, 399])
def test_a_reply_below_400_is_a_success(status: int) -> None:
    outcome = outcomes.replied(end(), Result(status=status))
    assert outcome == Done(id="c-1", take=4, result=Result(status=status))


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_reply_of_the_callers_kind_fails_at_once(status: int) -> None:
    outcome = outcomes.replied(end(), Result(status=status))
    assert isinstance(outcome, Done)
    assert (outcome.state, outcome.cause) == ("failed", f"status {status}")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_other_replies_are_tried_again(status: int) -> None:
    outcome = outcomes.replied(end(), Result(status=status))
    assert isinstance(outcome, Retry)
    assert (outcome.after_s, outcome.cause) == (4.0, f"status {status}")
    assert outcome.attempt is not None
    assert (outcome.attempt.started_ms, outcome.attempt.ended_ms) == (int((NOW - 2) * 1000), int(NOW * 1000))


@pytest.mark.parametrize(("value", "after"), [(b"30", 30.0), (b"Tue, 14 Nov 2023 22:13:30 GMT", 10.0), (b"soon", 4.0)])
def test_retry_after_is_honoured(value: bytes, after: float) -> None:
    outcome = outcomes.replied(end(), Result(status=503, headers=((b"Retry-After", value),)))
    assert isinstance(outcome, Retry)
    assert outcome.after_s == after


@pytest.mark.parametrize(
    "error", [NoRoom("x"), Unavailable("x"), TooManyRequests("x"), Paused("x"), DeadlineExceeded("x")]
)
def test_what_could_not_begin_here_goes_back(error: FaasError) -> None:
    assert outcomes.failed(end(3), error, begun=False) == GiveBack(id="c-1", take=4)


@pytest.mark.parametrize(
    ("error", "begun"),
    [
        (HandlerRaised("x"), True),
        (InstanceDied("x"), True),
        (DeadlineExceeded("x"), True),
        (Unavailable("the node stopped"), True),
        (Internal("x"), True),
        (StartFailed("x"), False),
        (CrashLoop("x"), False),
        (InstanceDied("while it started"), False),
        (NotFound("not yet known here"), False),
    ],
)
def test_failures_are_tried_again_and_then_dead(error: FaasError, begun: bool) -> None:
    assert isinstance(outcomes.failed(end(1), error, begun=begun), Retry)
    last = outcomes.failed(end(3), error, begun=begun)
    assert isinstance(last, Done)
    assert (last.state, last.cause) == ("dead", error.code)
    assert last.result is not None
    assert last.result.error is not None
    assert last.result.error["detail"] == error.message


@pytest.mark.parametrize("error", [BadRequest("x"), NotFound("the handler said so"), outcomes.too_large("16MiB")])
def test_errors_of_the_caller_are_not_tried_again(error: FaasError) -> None:
    outcome = outcomes.failed(end(1), error, begun=True)
    assert isinstance(outcome, Done)
    assert outcome.state == "failed"


def test_the_handler_may_ask_for_another_attempt() -> None:
    asked = error_from({"kind": "retry", "type": "Retry", "message": "later", "retry_after_ms": 90_000})
    assert isinstance(asked, RetryAsked)
    outcome = outcomes.failed(end(), asked, begun=True)
    assert isinstance(outcome, Retry)
    assert (outcome.after_s, outcome.cause) == (90.0, "retry")
    vague = error_from({"kind": "retry", "type": "Retry", "message": "later"})
    outcome = outcomes.failed(end(), vague, begun=True)
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 4.0, "the function's own back-off"


@pytest.mark.parametrize("after", [-1, "soon", True, 10**15])
def test_an_instances_word_on_when_is_checked(after: object) -> None:
    assert error_from({"kind": "retry", "message": "x", "retry_after_ms": after}).retry_after_s is None


def test_interrupted() -> None:
    assert outcomes.interrupted(end(), begun=False, stopping=True) == GiveBack(id="c-1", take=4)
    assert isinstance(outcomes.interrupted(end(), begun=True, stopping=True), Retry)
    cancelled = outcomes.interrupted(end(), begun=True, stopping=False)
    assert isinstance(cancelled, Done)
    assert cancelled.state == "cancelled"
