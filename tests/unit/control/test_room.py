"""How many background calls a node takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faas.control.room import AHEAD_MAX, HELD_BYTES, HELD_MAX, Rooms, ahead, room_of
from faas.model import Function, Settings, Version


def pool(**given: Any) -> Any:
    fields: dict[str, Any] = {
        "id": SimpleNamespace(function=SimpleNamespace(key=given.pop("key", "default/f"))),
        "free": 0, "slots": 1, "service_s": None, "instances": {}, "starting": 0, "max": 5, "waiting": 0,
        "backing_off": False, "retired_at": None,
    }  # fmt: skip
    return SimpleNamespace(**fields | given)


def rooms(pools: list[Any], functions: dict[str, Function] | None = None, clock: Any = lambda: 0.0) -> Rooms:
    dispatcher: Any = SimpleNamespace(pools=dict(enumerate(pools)), closing=False, leaving=False)
    return Rooms("n-1", dispatcher, lambda: functions or {}, clock)


def test_ahead_is_bounded() -> None:
    assert ahead(None, 1, 1) == 0
    assert ahead(0.01, 1, 0) == 0
    assert ahead(0.005, 1, 1) == 4
    assert ahead(0.005, 2, 3) == 24
    assert ahead(1e-7, 1, 1) == AHEAD_MAX


def test_a_pool_has_room_for_its_slots_and_one_more_instance() -> None:
    assert room_of(pool()) == 1
    assert room_of(pool(starting=1)) == 1
    assert room_of(pool(starting=1, waiting=1)) == 0
    assert room_of(pool(free=2, instances={1: 1, 2: 2})) == 3
    assert room_of(pool(free=0, instances={n: n for n in range(5)})) == 0
    assert room_of(pool(free=5, instances={n: n for n in range(5)}, waiting=9)) == 0
    assert room_of(pool(free=3, backing_off=True)) == 0


def test_versions_of_a_function_add_up_and_retired_ones_do_not_count() -> None:
    want = rooms(
        [pool(free=2, max=1, instances={1: 1}), pool(free=1, max=1, instances={1: 1}), pool(retired_at=1.0)]
    ).want(0, 0)
    assert want is not None
    assert want.rooms == {"default/f": 3}
    assert want.each == 1, "functions without a pool get one job, which starts an instance"


def test_paused_functions_get_nothing_and_limits_hold_before_there_is_a_pool() -> None:
    version = Version(number=1, code="0" * 64, settings=Settings(max_in_flight=2))
    functions = {
        "default/f": Function(app="default", name="f", aliases={"live": {1: 100}}, versions={1: version}),
        "default/g": Function(app="default", name="g", paused="maintenance"),
    }
    want = rooms([pool(key="default/g", free=3)], functions).want(0, 0)
    assert want is not None
    assert want.rooms["default/g"] == 0
    assert want.limits == {"default/f": 2}


def test_what_is_held_is_bounded() -> None:
    some = rooms([])
    assert some.want(HELD_MAX, 0) is None
    assert some.want(0, HELD_BYTES) is None
    want = some.want(HELD_MAX - 3, 0)
    assert want is not None
    assert want.most == 3


def test_a_refused_function_is_left_alone_longer_each_time_until_one_begins() -> None:
    now = [0.0]
    some = rooms([pool(free=1)], clock=lambda: now[0])

    def room() -> int:
        want = some.want(0, 0)
        assert want is not None
        return want.rooms["default/f"]

    assert [some.refused("default/f") for _ in range(3)] == [0.05, 0.1, 0.2]
    assert room() == 0
    now[0] = 0.21
    assert room() == 2
    assert some.refused("default/f") == 0.4
    some.began("default/f")
    assert room() == 2
    assert some.refused("default/f") == 0.05
    for _ in range(10):
        last = some.refused("default/f")
    assert last == 2.0
