"""The routes of live versions: the table that listeners use, and the check that no two functions want the same.

A change is checked where it is made, against what that node knows. Should two nodes let two functions have one route
in the same moment, both serve it from the function that was made first, and say so in their logs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import structlog

from faas.errors import Conflict
from faas.model import Function
from faas.names import FunctionName
from faas.policy.routing import Claim, Table
from faas.reach import parse_route
from faas.store.registry import Snapshot

_log = structlog.get_logger("faas.routes")
_Wants = dict[FunctionName, tuple[str, ...]]


class Routes:
    """The table in force. Subscribe `sync` to the catalog."""

    def __init__(self) -> None:
        self.table = Table()
        self._entered: dict[FunctionName, tuple[Claim, ...]] = {}
        self._seen: dict[str, Function] = {}

    def sync(self, snapshot: Snapshot) -> None:
        """Bring the table up to date. Costs a look at each function, and what has changed."""
        seen, now = self._seen, snapshot.functions
        self._seen = now
        changed = [function for key, function in now.items() if seen.get(key) is not function]
        for name in [function.id for key, function in seen.items() if key not in now]:
            self._leave(name)
        entering = [(function, claims) for function in changed if (claims := self._left_for(function))]
        for function, claims in entering:
            self._enter(function.id, claims)

    def _left_for(self, function: Function) -> tuple[Claim, ...]:
        """The claims to enter instead of those of before, which are taken out; empty when there is nothing to do."""
        claims = tuple(Claim(function.id, parse_route(route), function.created_at) for route in live_routes(function))
        if claims == self._entered.get(function.id, ()):
            return ()
        self._leave(function.id)
        return claims

    def _leave(self, name: FunctionName) -> None:
        for claim in self._entered.pop(name, ()):
            self.table.remove(claim)

    def _enter(self, name: FunctionName, claims: tuple[Claim, ...]) -> None:
        self._entered[name] = claims
        for claim in claims:
            rival = self.table.add(claim)
            if rival is not None:
                first, second = sorted((claim, rival), key=lambda one: one.order)
                _log.warning(
                    "two functions have one route; the older one gets the calls",
                    route=second.pattern.text,
                    serves=str(first.function),
                    instead_of=str(second.function),
                )


def live_routes(function: Function) -> tuple[str, ...]:
    """Routes of the version with the largest share of `live`; none before the first successful push."""
    live = function.live()
    return live.settings.routes if live is not None else ()


def check_changes(put: Iterable[Function], gone: Collection[FunctionName], snapshot: Snapshot) -> None:
    """May these records be written? Raises Conflict naming the function that has a route already."""
    wants, touched = {}, False
    for function in put:
        wants[function.id] = routes = live_routes(function)
        before = snapshot.functions.get(function.id.key)
        touched = touched or (bool(routes) and (before is None or live_routes(before) != routes))
    if touched:
        check_wants(wants, gone, snapshot)


def check_wants(wants: _Wants, gone: Collection[FunctionName], snapshot: Snapshot) -> None:
    """May these functions have these routes, all else being as it is? Raises Conflict naming who has one already."""
    if not any(wants.values()):
        return
    others = {
        function.id: live_routes(function)
        for function in snapshot.functions.values()
        if function.id not in wants and function.id not in gone
    }
    owners: dict[object, Claim] = {slot: claim for claim in _claims(others) for slot in claim.pattern.slots}
    for claim in _claims(wants):
        for slot in claim.pattern.slots:
            first = owners.setdefault(slot, claim)
            if first is not claim:
                raise _clash(claim, first)


def _claims(wants: _Wants) -> Iterable[Claim]:
    return (Claim(function, parse_route(route)) for function, routes in wants.items() for route in routes)


def _clash(claim: Claim, first: Claim) -> Conflict:
    if claim.function == first.function:
        return Conflict(
            f'{claim.function}: its routes "{first.pattern.text}" and "{claim.pattern.text}" are the same',
            hint="Keep one of the two.",
        )
    return Conflict(
        f'{claim.function}: the route "{claim.pattern.text}" belongs to {first.function} ("{first.pattern.text}")',
        hint=f"Give it another path, method or host, or take the route from {first.function}; push both together to "
        "hand it over.",
    )
