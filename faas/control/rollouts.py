"""Rollouts: begun, paused, resumed and ended by people here, and by the leader in `steering.py`.

Record and aliases are moved by the same write, so a rollout never says one thing while `live` does another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import structlog

from faas.control.catalog import Catalog
from faas.control.code import Code
from faas.control.editor import Edit, Editor
from faas.control.live import point
from faas.control.ports import Runner
from faas.control.rollout import Rollout, Terms, begin, change, check_terms
from faas.control.runnable import Runnable
from faas.errors import Conflict, NotFound
from faas.ids import new_id
from faas.model import Function, Version
from faas.names import LIVE, FunctionName, parse_key
from faas.policy.rollout import Seen, total
from faas.store import keys
from faas.store.records import Record
from faas.store.registry import Change, Registry, Snapshot
from faas.store.sightings import Sightings

CANARY = "canary"
"""Alias whose version a rollout takes when none is named."""

_log = structlog.get_logger("faas.rollout")
_seen = msgspec.msgpack.Decoder(dict[int, Seen])


class Rollouts:
    """The rollouts of all functions, as the catalog has them."""

    def __init__(
        self,
        catalog: Catalog,
        registry: Registry,
        code: Code,
        runner: Runner,
        sightings: Sightings,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._runner = runner
        self._sightings = sightings
        self._clock = clock
        self._runnable = Runnable(catalog, registry, code)
        self._editor = Editor(catalog, registry, clock)
        self._records: dict[str, Record] = {}
        self._known: dict[FunctionName, Rollout] = {}
        self._follow(catalog.snapshot)
        catalog.subscribe(self._follow)

    def find(self, name: FunctionName) -> Rollout | None:
        """The present or last rollout; None: there never was one. Raises NotFound for an unknown function."""
        self._catalog.get(name)
        return self._known.get(name)

    def going(self) -> dict[FunctionName, Rollout]:
        """Those that are not over."""
        return {name: rollout for name, rollout in self._known.items() if rollout.is_open}

    async def seen(self, name: FunctionName, rollout: Rollout) -> tuple[Seen, Seen]:
        """What all nodes saw of the live and of the new version in this step. Raises Unavailable."""
        parts = [_seen.decode(data) for data in await self._sightings.read(name.key, rollout.tag)]
        live, new = (total(part[n] for part in parts if n in part) for n in (rollout.live, rollout.version))
        return live, new

    async def start(self, name: FunctionName, version: int | None, terms: Terms, by: str) -> Rollout:
        """Give a new version its first share of the plain calls, when an instance of it has become ready here.

        Args:
            version: None: the one that `canary` points to, else the newest one.

        Raises:
            Invalid: the terms cannot be.
            NotFound: there is no such version.
            Conflict: a rollout is going on, or `live` is not at one other version.
            StartFailed, InstanceDied, NoRoom, Unavailable: it cannot be started.
        """
        check_terms(terms)
        function = self._catalog.get(name)
        number = version if version is not None else await self._candidate(function)
        self._check_start(function, number)
        (found,) = await self._runnable.find([(function, number)])
        await self._runner.prepare(function, found)
        begun = begin(new_id("r"), number, 0, terms, by, self._clock())

        async def plan() -> Edit:
            nonlocal begun
            now = self._catalog.get(name)
            begun = msgspec.structs.replace(begun, live=self._check_start(now, number))
            return self._edit(now, begun, [found])

        await self._editor.write(str(name), plan)
        return begun

    async def pause(self, name: FunctionName, reason: str) -> Rollout:
        """Stay at the present share; a broken gate still sends it back. Raises NotFound, Conflict."""
        return await self._by_hand(
            name, lambda one: one if one.state == "paused" else change(one, "paused", reason, self._clock())
        )

    async def resume(self, name: FunctionName, reason: str) -> Rollout:
        """Go on: the present step begins anew. Raises NotFound, Conflict."""
        return await self._by_hand(
            name, lambda one: one if one.state == "running" else change(one, "running", reason, self._clock())
        )

    async def abort(self, name: FunctionName, reason: str) -> Rollout:
        """Give every plain call back to the live version. Raises NotFound, Conflict."""
        return await self._by_hand(name, lambda one: change(one, "aborted", reason, self._clock()))

    async def move(self, name: FunctionName, old: Rollout, new: Rollout) -> None:
        """Write `new` in place of `old`, aliases too; nothing when `old` is not the present one any more."""

        async def plan() -> Edit:
            function = self._catalog.peek(name)
            if function is None or self._known.get(name) != old:
                return Edit()
            return self._edit(function, new, [])

        await self._editor.write(str(name), plan)

    # -- inside --------------------------------------------------------------------------------------------

    async def _by_hand(self, name: FunctionName, changed: Callable[[Rollout], Rollout]) -> Rollout:
        new: Rollout

        async def plan() -> Edit:
            nonlocal new
            function = self._catalog.get(name)
            present = self._known.get(name)
            if present is None or not present.is_open:
                raise Conflict(
                    f"no rollout of {name} is going on" + (f": the last one {present.state}" if present else ""),
                    hint=f"begin one with: faas rollout {name}",
                )
            new = changed(present)
            return Edit() if new == present else self._edit(function, new, [])

        await self._editor.write(str(name), plan)
        return new

    def _edit(self, function: Function, new: Rollout, found: Sequence[Version]) -> Edit:
        """`new` and the shares it stands for; aliases that somebody else has moved stay as they are."""
        present = self._known.get(function.id)
        ours = present.weights() if present is not None and present.id == new.id else {new.live: 100}
        field = keys.ROLLOUT + function.id.key
        record = self._records.get(field)
        kept = Change(field, msgspec.json.encode(new), record.rev if record else 0)
        if function.aliases.get(LIVE) != ours:
            return Edit(records=[kept])
        moved = point(function, {LIVE: new.weights()}, found)
        # Written even when it is the same: its guard keeps others from moving `live` in between.
        return Edit(put=[moved], versions=[(function.id, version) for version in found], records=[kept])

    async def _candidate(self, function: Function) -> int:
        weights = function.aliases.get(CANARY, {})
        if len(weights) == 1:
            return next(iter(weights))
        history = await self._registry.versions(function.id)
        if not history:
            raise NotFound(f"{function.id} has no version yet", hint="push it first")
        return history[-1].number

    def _check_start(self, function: Function, number: int) -> int:
        """The version that is live now. Raises Conflict when no rollout of `number` can begin."""
        name = function.id
        present = self._known.get(name)
        if present is not None and present.is_open:
            raise Conflict(
                f"a rollout of {name}@{present.version} is going on, at {present.share}%",
                hint=f"end it first with: faas rollout abort {name}",
            )
        weights = function.aliases.get(LIVE)
        if not weights:
            raise Conflict(f"{name} has no live version to compare with", hint=f"faas alias set {name} live {number}")
        if len(weights) > 1:
            raise Conflict(f"live of {name} is spread by hand", hint=f"faas alias set {name} live VERSION")
        (live,) = weights
        if live == number:
            raise Conflict(f"{name}@{number} is live already", hint=f"push a new one with: faas push --alias {CANARY}")
        return live

    def _follow(self, snapshot: Snapshot) -> None:
        """Take over what the registry says now. Decodes only what has changed."""
        records = {field: one for field, one in snapshot.others.items() if field.startswith(keys.ROLLOUT)}
        if records == self._records:
            return
        known: dict[FunctionName, Rollout] = {}
        for field, record in records.items():
            try:
                name = parse_key(field[len(keys.ROLLOUT) :])
                same = self._records.get(field) == record and name in self._known
                known[name] = self._known[name] if same else msgspec.json.decode(record.payload, type=Rollout)
            except (msgspec.MsgspecError, ValueError):
                _log.exception("a rollout's record is not readable; it stands still", field=field)
        self._records, self._known = records, known
