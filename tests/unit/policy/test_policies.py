"""Pure decisions: for any input within bounds the rule holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from faas.policy import backoff, starting
from faas.policy.eviction import Idle, to_evict, to_expire

small = st.integers(0, 200)
counts = st.builds(
    starting.Counts,
    waiting=small,
    ready=small,
    starting=small,
    slots=st.integers(1, 64),
    min=small,
    max=small,
    service_s=st.none() | st.floats(1e-6, 100),
    head_s=st.floats(0, 100),
)


@given(counts)
def test_starts_stay_within_max_and_count_what_is_starting(c: starting.Counts) -> None:
    decision = starting.decide(c)
    assert decision.number >= 0
    assert decision.reason
    if decision.number:
        assert c.ready + c.starting + decision.number <= c.max
        needed = max(c.waiting, c.min)
        assert c.starting + decision.number <= needed + c.starting * (c.min > c.waiting)


@given(counts)
def test_deciding_twice_starts_nothing_more(c: starting.Counts) -> None:
    first = starting.decide(c)
    after = c._replace(starting=c.starting + first.number)
    assert starting.decide(after).number == 0


@given(counts)
def test_a_queue_that_moves_starts_nothing(c: starting.Counts) -> None:
    if c.min == 0 and c.ready and not starting.is_standing(c.service_s, c.head_s):
        assert starting.decide(c).number == 0


def test_thirty_two_quick_callers_share_one_instance_and_slow_ones_do_not() -> None:
    quick = starting.Counts(31, ready=1, starting=0, slots=1, min=0, max=20, service_s=0.0002, head_s=0.006)
    assert starting.decide(quick).number == 0
    assert starting.decide(quick._replace(service_s=10.0)).number == 19
    stuck = quick._replace(service_s=0.02, head_s=0.5)
    assert starting.decide(stuck).number > 0


@given(st.integers(0, 10_000))
def test_backoff_grows_to_its_cap(failures: int) -> None:
    delay = backoff.delay_s(failures)
    assert 0 <= delay <= backoff.CAP_S
    assert backoff.delay_s(failures + 1) >= delay


idles = st.lists(
    st.builds(
        Idle,
        id=st.uuids().map(str),
        pool=st.sampled_from("abc"),
        idle_s=st.floats(0, 1e6),
        memory=st.integers(1, 1000),
        spare=st.just(2),
    ),
    max_size=12,
)


@given(idles, st.integers(1, 3000))
def test_eviction_frees_enough_or_nothing_and_respects_min(idle: list[Idle], needed: int) -> None:
    chosen = to_evict(idle, needed, "a")
    by_id = {one.id: one for one in idle}
    freed = sum(by_id[id].memory for id in chosen)
    assert not chosen or freed >= needed
    for pool in "abc":
        taken = [id for id in chosen if by_id[id].pool == pool]
        assert len(taken) <= (0 if pool == "a" else 2)


@given(idles, st.floats(0, 1e6))
def test_expiry_takes_the_coldest_and_leaves_min(idle: list[Idle], limit: float) -> None:
    one_pool = [one._replace(pool="a") for one in idle]
    gone = to_expire(one_pool, limit)
    assert len(gone) <= 2
    ages = {one.id: one.idle_s for one in one_pool}
    assert all(ages[id] >= limit for id in gone)
    if gone:
        kept = [ages[one.id] for one in one_pool if one.id not in gone]
        assert min(ages[id] for id in gone) >= max(kept, default=0) or len(gone) < 2 or len(kept) > 0
