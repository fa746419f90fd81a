"""Where aliases point, and the way back: pure changes of a function's record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from faas.model import Function, Version
from faas.names import LIVE

WAS_LIVE_MAX = 50
"""Versions remembered as having been live."""


def point(function: Function, aliases: Mapping[str, dict[int, int]], found: Iterable[Version]) -> Function:
    """`function` with these aliases moved, and exactly the versions in its record that any alias points to."""
    known = {**function.versions, **{version.number: version for version in found}}
    return _pointing(function, {**function.aliases, **aliases}, known)


def unpoint(function: Function, alias: str) -> Function:
    """`function` without `alias`."""
    left = {other: weights for other, weights in function.aliases.items() if other != alias}
    return _pointing(function, left, function.versions)


def way_back(function: Function) -> tuple[int, int] | None:
    """Versions a rollback of `live` moves from and to; None: nothing was live before.

    While `live` is spread over several versions, the way back leads to all of the one that was live first.
    """
    live = function.live()
    if live is None:
        return None
    weights = function.aliases[LIVE]
    previous = function.was_live[-1] if function.was_live else 0
    if len(weights) > 1 and previous not in weights:
        others = {number: weight for number, weight in weights.items() if number != live.number}
        return max(others, key=lambda number: (others[number], number)), live.number
    return (live.number, previous) if previous else None


def _pointing(function: Function, aliases: dict[str, dict[int, int]], known: Mapping[int, Version]) -> Function:
    numbers = sorted({number for weights in aliases.values() for number in weights})
    moved = replace(function, aliases=aliases, versions={number: known[number] for number in numbers})
    return replace(moved, was_live=_was_live(function, moved))


def _was_live(before: Function, after: Function) -> tuple[int, ...]:
    """Each version once, so that a rollback and the rollback of it do not fill the list."""
    old, new = before.live(), after.live()
    if old is None or new is None or old.number == new.number:
        return before.was_live
    kept = [number for number in before.was_live if number not in (old.number, new.number)]
    return (*kept, old.number)[-WAS_LIVE_MAX:]
