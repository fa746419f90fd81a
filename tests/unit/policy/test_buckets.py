"""Token buckets: how many, how fast, how many remembered, and clocks that jump."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.policy.buckets import Buckets


def test_a_burst_and_then_the_rate() -> None:
    buckets = Buckets()
    assert [buckets.take("k", 3, 2.0, 10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("k", 3, 2.0, 10.5) == 0.0
    assert buckets.take("k", 3, 2.0, 10.5) == 0.5
    assert buckets.take("other", 3, 2.0, 10.5) == 0.0
    assert [buckets.take("k", 3, 2.0, 1e6) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5], "it holds no more than a burst"


def test_a_clock_that_goes_back() -> None:
    buckets = Buckets()
    assert buckets.take("k", 1, 1.0, 1_000.0) == 0.0
    assert buckets.take("k", 1, 1.0, 0.0) == pytest.approx(1.0), "no gift"
    assert buckets.take("k", 1, 1.0, 1.0) == 0.0, "and no lock-out until the old time is reached again"


def test_the_table_is_bounded() -> None:
    buckets = Buckets(keys_max=2)
    for key in "aba":
        assert buckets.take(key, 5, 1.0, 0.0) == 0.0
    buckets.take("c", 5, 1.0, 0.0)
    assert len(buckets) == 2
    left = [buckets.take("a", 5, 1.0, 0.0) for _ in range(4)]
    assert left == [0.0, 0.0, 0.0, 1.0], "b was unheard of for longest, a was kept"


@given(st.lists(st.floats(min_value=0, max_value=10), min_size=1, max_size=200), st.integers(1, 5))
def test_never_more_than_burst_and_rate_allow(steps: list[float], burst: int) -> None:
    buckets, now, taken = Buckets(), 0.0, 0
    for step in steps:
        now += step
        taken += buckets.take("k", burst, 0.5, now) == 0.0
    assert taken <= burst + now * 0.5 + 1e-6
