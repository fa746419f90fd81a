"""What fits into an app's quota."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from faas.policy.eviction import Idle, to_evict
from faas.policy.quota import Quota, Use, excess, missing, share

MIB = 1 << 20
LIMITS = st.builds(Quota, instances=st.none() | st.integers(1, 50), memory=st.none() | st.integers(MIB, 10_000 * MIB))
USES = st.builds(Use, st.integers(0, 50), st.integers(0, 10_000 * MIB))


@given(LIMITS, USES, st.integers(MIB, 1000 * MIB))
def test_it_fits_when_nothing_is_missing(quota: Quota, use: Use, memory: int) -> None:
    over = missing(quota, use, memory)
    assert (over == (0, 0)) == (excess(quota, use, memory) == "")
    fewer = Use(max(0, use.instances - over[0]), max(0, use.memory - over[1]))
    if over[1] <= use.memory and over[0] <= use.instances:
        assert excess(quota, fewer, memory) == "", "when that has gone, it fits"


def test_words() -> None:
    assert excess(Quota(instances=2), Use(2, 0), MIB) == "2 of 2 instances"
    assert excess(Quota(memory=3 * MIB), Use(9, 2 * MIB), 2 * MIB) == "2MiB of 3MiB memory"
    assert not Quota(queue=1).empty
    assert Quota().empty
    assert share(100, 4) == 25
    assert share(100, 0) == 100


def test_a_number_of_instances_can_be_asked_to_go() -> None:
    idle = [Idle(str(at), "a", float(at), 10, 3) for at in range(4)]
    assert to_evict(idle, 0, "b", 2) == ["3", "2"]
    assert to_evict(idle, 25, "b", 1) == ["3", "2", "1"]
    assert to_evict(idle, 0, "b", 4) == [], "its min stays"
    assert to_evict(idle, 0, "b") == []
