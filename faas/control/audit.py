"""Who did what to which function when: written after each change, read by those who may see the app."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from itertools import islice
from typing import cast

import structlog

from faas.control.tokens import Principal
from faas.errors import Unavailable
from faas.names import FunctionName
from faas.store.audit import AuditEntry, AuditLog, Matches, Touched

__all__ = ["Audit", "AuditEntry"]

_log = structlog.get_logger("faas.audit")

NAMED_MAX = 100
"""Functions one entry names; the others are counted."""
DETAIL_MAX = 500

Moves = Mapping[FunctionName, tuple[int, int]]
"""Functions, and the versions they moved between; 0: none."""


class Audit:
    """The audit trail of the cluster."""

    def __init__(self, log: AuditLog) -> None:
        self._stream = log

    async def record(
        self, who: Principal, address: str, verb: str, outcome: str, *, app: str, touched: Moves, detail: str
    ) -> None:
        """Add what has just happened: one entry an app. Never raises: the change itself cannot be taken back.

        Args:
            outcome: `ok` or an error's code.
            app: it belongs to, for changes that name no function; empty: none.
        """
        by_app: dict[str, dict[FunctionName, tuple[int, int]]] = {} if touched else {app: {}}
        for name, move in touched.items():
            by_app.setdefault(name.app, {})[name] = move
        entries = [
            AuditEntry(
                by=who.name,
                address=address,
                verb=verb,
                outcome=outcome,
                app=owner,
                functions=tuple(Touched(str(name), *move) for name, move in islice(moves.items(), NAMED_MAX)),
                more=max(0, len(moves) - NAMED_MAX),
                detail=detail[:DETAIL_MAX],
            )
            for owner, moves in by_app.items()
        ]
        try:
            await self._stream.add(entries)
        except Unavailable as error:
            _log.error(
                "a change is not in the audit trail",
                error=error.message,
                by=who.name,
                address=address,
                verb=verb,
                outcome=outcome,
                apps=list(by_app),
                detail=detail,
            )

    async def read(
        self, who: Principal, *, app: str = "", function: FunctionName | None = None, limit: int, follow: bool
    ) -> AsyncGenerator[AuditEntry, None]:
        """The newest entries `who` may see, oldest first; with `follow` those to come as well.

        Raises:
            Unavailable: Redis does not answer.
        """
        matches = _filter(who, app, function)
        page = await self._stream.newest(limit, matches)
        for entry in page.entries:
            yield entry
        if follow:
            coming = cast("AsyncGenerator[AuditEntry, None]", self._stream.follow(page.position, matches))
            async with aclosing(coming):
                async for entry in coming:
                    yield entry


def _filter(who: Principal, app: str, function: FunctionName | None) -> Matches:
    def matches(entry: AuditEntry) -> bool:
        if (who.apps is not None and entry.app not in who.apps) or (app and entry.app != app):
            return False
        if function is None:
            return True
        if entry.more and entry.app == function.app:
            return True
        return any(touched.name == str(function) for touched in entry.functions)

    return matches
