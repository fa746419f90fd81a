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

    While `live` is spread over several versions, the way back leads to the one that was wholly live last, and away
    from the one that came in.
    """
    weights = function.aliases.get(LIVE)
    if not weights or not function.was_live:
        return None
    previous = function.was_live[-1]
    others = [number for number in weights if number != previous]
    return max(others, key=lambda number: (weights[number], number)), previous


def _pointing(function: Function, aliases: dict[str, dict[int, int]], known: Mapping[int, Version]) -> Function:
    numbers = sorted({number for weights in aliases.values() for number in weights})
    moved = replace(function, aliases=aliases, versions={number: known[number] for number in numbers})
    return replace(moved, was_live=_was_live(function, moved))


def _was_live(before: Function, after: Function) -> tuple[int, ...]:
    """Each version once, so that a rollback and the rollback of it do not fill the list."""
    old, new = _wholly_live(before), _wholly_live(after)
    if old == new:
        return before.was_live
    kept = [number for number in before.was_live if number not in (old, new)]
    return (*kept, old)[-WAS_LIVE_MAX:] if old else tuple(kept)


def _wholly_live(function: Function) -> int:
    """The version that gets every plain call; 0 while there is none, or while `live` is spread."""
    weights = function.aliases.get(LIVE, {})
    return next(iter(weights)) if len(weights) == 1 else 0
