"""Changes of records, whoever else writes: computed, written under a guard, computed anew when it fails."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from faas.control.catalog import Catalog
from faas.control.routes import check_changes
from faas.errors import Conflict
from faas.model import Function, Version
from faas.names import FunctionName
from faas.store.registry import Change, Registry, Snapshot

TRIES = 10
"""Times a change is computed anew because someone else changed a record in between."""


class Edit(NamedTuple):
    """What to write, all of it or nothing. `versions` go into the histories, where they may be already."""

    put: Sequence[Function] = ()
    delete: Sequence[Function] = ()
    versions: Sequence[tuple[FunctionName, Version]] = ()
    delete_secrets: Sequence[str] = ()
    records: Sequence[Change] = ()
    """Records of other kinds."""

    @property
    def empty(self) -> bool:
        """True when there is nothing to write."""
        return not (self.put or self.delete or self.delete_secrets or self.records)


class Editor:
    """Writes edits; each is one apply, and shows in the catalog before `write` returns."""

    def __init__(self, catalog: Catalog, registry: Registry, clock: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._registry = registry
        self._clock = clock

    async def write(self, what: str, plan: Callable[[], Awaitable[Edit]]) -> list[Function]:
        """Write what `plan` makes of the catalog; it is asked again after each collision.

        Returns:
            The written records with their new revisions.

        Raises:
            Conflict: others changed `what` again and again, or a route it brings belongs to another function.
                Besides what `plan` raises.
        """
        for _ in range(TRIES):
            edit = await plan()
            if edit.empty:
                return []
            check_changes(edit.put, {function.id for function in edit.delete}, self._catalog.snapshot)
            now = self._clock()
            try:
                saved = await self._registry.apply(
                    put=[replace(function, updated_at=now) for function in edit.put],
                    delete=edit.delete,
                    versions=edit.versions,
                    delete_secrets=edit.delete_secrets,
                    records=edit.records,
                )
            except Conflict:
                await self._catalog.load()
                continue
            await self._catalog.until(lambda now: reflects(now, saved) and _gone(now, edit))  # noqa: B023  awaited here
            return saved
        raise Conflict(f"{what} was changed by others {TRIES} times in a row", hint="run it again")


def reflects(snapshot: Snapshot, saved: Iterable[Function]) -> bool:
    """True when `snapshot` has these records, or newer ones: revisions of a name never repeat."""
    functions = snapshot.functions
    return all((now := functions.get(function.id.key)) is not None and now.rev >= function.rev for function in saved)


def _gone(snapshot: Snapshot, edit: Edit) -> bool:
    functions = snapshot.functions
    return (
        all((now := functions.get(function.id.key)) is None or now.rev > function.rev for function in edit.delete)
        and all(key not in snapshot.secrets for key in edit.delete_secrets)
        and _recorded(snapshot, edit.records)
    )


def _recorded(snapshot: Snapshot, changes: Sequence[Change]) -> bool:
    """True when `snapshot` has these records, or newer ones."""
    for change in changes:
        now = snapshot.others.get(change.field)
        if change.payload is None:
            if now is not None:
                return False
        elif now is None or (now.payload != change.payload and now.rev <= (change.guard or 0)):
            return False
    return True
