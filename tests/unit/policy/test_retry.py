"""Retry or not, and when: for any input within bounds the rule holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.policy.retry import AFTER_MAX_S, Kind, Policy, ceiling_s, decide, retry_after_s

policies = st.builds(
    Policy,
    attempts=st.integers(1, 100),
    first_s=st.floats(0, 100),
    factor=st.floats(1, 10),
    cap_s=st.floats(0, 3600),
    raised=st.booleans(),
)
kinds: st.SearchStrategy[Kind] = st.sampled_from(["caller", "raised", "crash", "timeout", "platform", "asked"])
jitters = st.floats(0, 1, exclude_max=True)


@given(policies, kinds, st.integers(1, 10_000), jitters, st.none() | st.floats(allow_nan=False))
def test_waits_are_bounded_and_attempts_end(
    policy: Policy, kind: Kind, attempt: int, jitter: float, asked_s: float | None
) -> None:
    verdict = decide(policy, kind, attempt, jitter, asked_s)
    assert verdict.reason
    assert not (verdict.retry and (attempt >= policy.attempts or kind == "caller"))
    assert 0 <= verdict.after_s <= (policy.cap_s if asked_s is None else AFTER_MAX_S)


@given(policies, st.sampled_from(["crash", "timeout", "platform", "asked"]), jitters)
def test_what_is_not_the_callers_fault_is_tried_again(policy: Policy, kind: Kind, jitter: float) -> None:
    assert decide(policy, kind, 1, jitter).retry == (policy.attempts > 1)


def test_what_a_handler_raised_is_tried_again_unless_told() -> None:
    assert decide(Policy(), "raised", 1, 0.5).retry
    assert not decide(Policy(raised=False), "raised", 1, 0.5).retry
    assert decide(Policy(raised=False), "raised", 1, 0.5, asked_s=3.0) == (True, 3.0, "the handler asked for it")


@given(policies, st.integers(1, 5_000))
def test_the_ceiling_grows_to_its_cap(policy: Policy, attempt: int) -> None:
    assert ceiling_s(policy, attempt) <= ceiling_s(policy, attempt + 1) <= policy.cap_s


def test_full_jitter_draws_from_the_whole_range() -> None:
    policy = Policy(attempts=10, first_s=1.0, factor=2.0, cap_s=5.0)
    assert [decide(policy, "crash", n, 0.5).after_s for n in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 2.5]
    assert decide(policy, "crash", 3, 0.0).after_s == 0.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("9" * 50, 999_999_999.0),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after_s(value, now=100.0) == seconds
