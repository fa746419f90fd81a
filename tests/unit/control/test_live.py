"""The way back: which version a rollback goes to."""

from __future__ import annotations

import pytest

from faas.control.live import WAS_LIVE_MAX, point, unpoint, way_back
from faas.model import Function, Settings, Version

Shares = dict[int, int]


def version(number: int) -> Version:
    return Version(number=number, code="0" * 64, settings=Settings())


def moved(*steps: Shares) -> Function:
    """A function whose `live` was pointed at these, one after the other."""
    function = Function(app="default", name="hello")
    for shares in steps:
        function = point(function, {"live": shares}, [version(number) for number in shares])
    return function


@pytest.mark.parametrize(
    ("steps", "was_live", "way"),
    [
        ([], (), None),
        ([{1: 100}], (), None),
        ([{1: 100}, {2: 100}], (1,), (2, 1)),
        ([{1: 100}, {2: 100}, {1: 100}], (2,), (1, 2)),
        ([{1: 100}, {2: 100}, {3: 100}, {2: 100}, {3: 100}], (1, 2), (3, 2)),
        ([{1: 100}, {2: 100}, {2: 90, 3: 10}], (1, 2), (3, 2)),
        ([{1: 100}, {2: 100}, {2: 10, 3: 90}], (1, 2), (3, 2)),
        ([{1: 100}, {1: 80, 2: 10, 3: 10}], (1,), (3, 1)),
        ([{1: 100}, {2: 100}, {1: 100}, {1: 90, 2: 10}], (2, 1), (2, 1)),
        ([{1: 100}, {1: 90, 2: 10}, {1: 10, 2: 90}, {2: 100}], (1,), (2, 1)),
        ([{1: 100}, {1: 90, 2: 10}, {1: 100}], (), None),
        ([{1: 50, 2: 50}], (), None),
    ],
)
def test_way_back(steps: list[Shares], was_live: tuple[int, ...], way: tuple[int, int] | None) -> None:
    function = moved(*steps)
    assert function.was_live == was_live
    assert way_back(function) == way


def test_the_memory_is_bounded() -> None:
    function = moved(*({number: 100} for number in range(1, 200)))
    assert len(function.was_live) == WAS_LIVE_MAX
    assert function.was_live[-1] == 198


def test_other_aliases_are_not_the_way_back() -> None:
    function = point(moved({1: 100}), {"canary": {2: 100}}, [version(2)])
    assert (function.was_live, sorted(function.versions)) == ((), [1, 2])
    assert sorted(unpoint(function, "canary").versions) == [1]
