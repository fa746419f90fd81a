"""Which versions the rule lets go."""

from __future__ import annotations

import pytest

from faas.model import Function, Settings, Version
from faas.policy.retention import Rule, expendable

NOW = 1_000.0


def history(*numbers: int) -> list[Version]:
    """Version N was pushed at second N."""
    return [Version(number=n, code="0" * 64, settings=Settings(), created_at=float(n)) for n in numbers]


@pytest.mark.parametrize(
    ("rule", "function", "gone"),
    [
        (Rule(last=2, young_s=0), {}, [1, 2, 3]),
        (Rule(last=9, young_s=0), {}, []),
        (Rule(last=0, young_s=0), {}, [1, 2, 3, 4, 5]),
        (Rule(last=2, young_s=997.5), {}, [1, 2]),
        (Rule(last=2, young_s=0), {"aliases": {"live": {1: 90, 5: 10}, "old": {2: 100}}}, [3]),
        (Rule(last=2, young_s=0), {"was_live": (1, 2)}, [1, 3]),
    ],
)
def test_expendable(rule: Rule, function: dict[str, object], gone: list[int]) -> None:
    record = Function(app="default", name="hello", latest=5, **function)  # type: ignore[arg-type]
    assert expendable(record, history(3, 1, 2, 5, 4), rule, NOW) == gone


def test_a_clock_that_went_back_keeps_everything() -> None:
    assert expendable(Function(app="a", name="b"), history(1, 2, 3), Rule(last=1, young_s=1), 0.0) == []
