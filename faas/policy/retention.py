"""Which old versions may go. Pure: the record, its history and the time in, version numbers out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from faas.model import Function, Version

DAY_S = 24 * 3600.0


class Rule(NamedTuple):
    """A version is kept when any of these holds, or when it is needed (see `expendable`)."""

    last: int = 20
    """It is among so many newest ones."""
    young_s: float = 7 * DAY_S
    """It is younger, in seconds."""


def expendable(function: Function, history: Iterable[Version], rule: Rule, now: float) -> list[int]:
    """Numbers of the versions that are neither kept by `rule` nor needed, ascending.

    Needed are those an alias points to, and the one that a rollback would go to.
    """
    newest = sorted(history, key=lambda version: version.number, reverse=True)
    needed = {number for weights in function.aliases.values() for number in weights} | {*function.was_live[-1:]}
    return sorted(
        version.number
        for version in newest[max(0, rule.last) :]
        if version.number not in needed and now - version.created_at >= rule.young_s
    )
