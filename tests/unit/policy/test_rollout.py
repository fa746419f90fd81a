"""When a rollout goes on, stops, or goes back: every branch, and what must hold for all numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.policy.rollout import (
    FIRST_S,
    GROWTH,
    PATIENCE,
    SLACK_S,
    Action,
    Decision,
    Gates,
    Seen,
    bucket_of,
    decide,
    total,
)

GATES = Gates()


def seen(calls: int, errors: int = 0, seconds: float = 0.01) -> Seen:
    """Calls of which the failed ones say nothing about time."""
    result = Seen(times={})
    for at in range(calls):
        failed = at < errors
        result.add(None if failed else seconds, failed=failed)
    return result


def judged(live: Seen, new: Seen, waited_s: float = 30.0, gates: Gates = GATES, paused: bool = False) -> Decision:
    return decide(gates, 30.0, waited_s, live, new, paused=paused)


@pytest.mark.parametrize(
    ("live", "new", "waited_s", "action", "words"),
    [
        (seen(1000), seen(100), 30, Action.ADVANCE, "100 calls, errors 0.0%"),
        (seen(1000), seen(100), 29, Action.WAIT, "1 s left"),
        (seen(1000), seen(99), 30, Action.WAIT, "the new version had 99 of 100 calls"),
        (seen(1000), seen(99), 30 * PATIENCE, Action.PAUSE, "no data: the new version had 99"),
        (seen(99), seen(1000), 30 * PATIENCE, Action.PAUSE, "no data: the live version had 99"),
        (seen(0), seen(0), 30 * PATIENCE, Action.PAUSE, "no data"),
        (seen(1000), seen(100, errors=1), 30, Action.ADVANCE, "errors 1.0%"),
        (seen(1000), seen(100, errors=2), 5, Action.REVERT, "2 of 100 calls failed (2.0%)"),
        (seen(1000), seen(2, errors=2), 1, Action.REVERT, "2 of 2 calls failed"),
        (seen(1000, errors=100), seen(100, errors=11), 30, Action.ADVANCE, "(live 10.0%)"),
        (seen(1000, errors=100), seen(100, errors=12), 30, Action.REVERT, "10.0% and 1.0% more"),
        (seen(50), seen(100, errors=100), 30, Action.WAIT, "the live version had 50"),
        (seen(1000), seen(100, seconds=0.02), 3, Action.REVERT, "p95: "),
        (seen(1000, seconds=0.001), seen(100, seconds=0.004), 30, Action.ADVANCE, "p95"),
        (seen(1000), seen(99, seconds=1.0), 29, Action.WAIT, "left"),
    ],
)
def test_cases(live: Seen, new: Seen, waited_s: float, action: Action, words: str) -> None:
    decision = judged(live, new, waited_s)
    assert (decision.action, words in decision.reason) == (action, True), decision


def test_paused_only_goes_back() -> None:
    assert judged(seen(1000), seen(1000), paused=True).action is Action.WAIT
    assert judged(seen(0), seen(0), 1e6, paused=True).action is Action.WAIT
    assert judged(seen(1000), seen(100, errors=50), paused=True).action is Action.REVERT


def test_gates_can_be_left_out() -> None:
    free = Gates(max_errors=None, max_p95=None, min_sample=0)
    assert judged(seen(0), seen(0), gates=free).action is Action.ADVANCE
    assert judged(seen(10), seen(10, errors=10, seconds=9), gates=free).action is Action.ADVANCE


COUNTS = st.builds(
    lambda calls, errors, seconds: seen(calls, min(calls, errors), seconds),
    st.integers(0, 300), st.integers(0, 300), st.floats(0.0001, 100),
)  # fmt: skip


@given(COUNTS, st.floats(0, 1000), st.integers(0, 300))
def test_a_twin_of_the_live_version_is_never_sent_back(both: Seen, waited_s: float, sample: int) -> None:
    assert judged(both, both, waited_s, Gates(min_sample=sample)).action is not Action.REVERT


@given(COUNTS, COUNTS, st.floats(0, 1000))
def test_nothing_advances_without_sample_or_against_a_gate(live: Seen, new: Seen, waited_s: float) -> None:
    decision = judged(live, new, waited_s)
    assert decision.reason
    if decision.action is Action.ADVANCE:
        assert waited_s >= 30
        assert min(live.calls, new.calls) >= GATES.min_sample
        assert new.error_rate <= live.error_rate + 0.01 + 1e-9
    if live.calls < GATES.min_sample:
        assert decision.action in (Action.WAIT, Action.PAUSE), "nothing to compare with is no reason to go back"


@given(COUNTS, COUNTS, st.integers(1, 100))
def test_more_errors_never_turn_a_revert_into_an_advance(live: Seen, new: Seen, more: int) -> None:
    worse = Seen(new.calls + more, new.errors + more, new.times)
    if judged(live, new).action is Action.REVERT and new.error_rate > live.error_rate + 0.01:
        assert judged(live, worse).action is Action.REVERT


@given(st.lists(st.floats(0.0002, 1e4), min_size=1, max_size=50), st.floats(0.01, 1))
def test_quantiles_are_good_to_a_bucket(times: list[float], share: float) -> None:
    one = Seen(times={})
    for seconds in times:
        one.add(seconds, failed=False)
    found = one.quantile(share)
    exact = sorted(times)[max(0, -int(-share * len(times) // 1) - 1)]
    assert found is not None
    assert exact / GROWTH**2 <= found <= exact * GROWTH**2


@given(st.lists(COUNTS, max_size=5))
def test_sums(parts: list[Seen]) -> None:
    whole = total(parts)
    assert whole.calls == sum(part.calls for part in parts)
    assert sum(whole.times.values()) == whole.calls - whole.errors


def test_edges() -> None:
    assert Seen(times={}).quantile(0.95) is None
    assert bucket_of(0.0) == bucket_of(-1.0) == bucket_of(FIRST_S) == 0
    assert bucket_of(1e300) == bucket_of(1e6)
    assert SLACK_S > 0
