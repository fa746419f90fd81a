"""The push: check, reserve numbers, start the new versions, and move all their aliases in one write.

    check --> stored --> reserve numbers --> start each here, wait for READY --> one apply --> done
                            (apply)                |                              aliases move together
                                                   +-- any fails: failed, nothing has moved

A version enters the history only when it has been ready once. The numbers of failed pushes are not used again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from faas.control.catalog import Catalog
from faas.control.checks import PushRefused, check_push
from faas.control.code import Code
from faas.control.dependencies import Dependencies, Settler
from faas.control.editor import TRIES, reflects
from faas.control.live import point
from faas.control.ports import Runner
from faas.control.routes import check_changes
from faas.control.whole import to_its_end
from faas.deps.recipe import declaration
from faas.errors import Conflict, FaasError, Internal, Invalid, StartFailed, problem
from faas.ids import new_id
from faas.model import Function, FunctionPush, Push, PushEvent, Version
from faas.names import LIVE, FunctionName, Target
from faas.store.registry import Registry
from faas.store.tasks import end

_log = structlog.get_logger("faas.push")

STARTS_AT_ONCE = 4
START_MARGIN_S = 30.0
"""What starting may take beyond the version's own start_timeout before the push gives up on the node."""

Tell = Callable[[PushEvent], None]


class _Plan(NamedTuple):
    """One function on its way: the record with the number reserved, and the version to be."""

    function: Function
    version: Version

    @property
    def id(self) -> FunctionName:
        return self.function.id


class Pushes:
    """Runs pushes. Several at once are fine, also of the same function: the higher number wins."""

    def __init__(
        self,
        catalog: Catalog,
        registry: Registry,
        code: Code,
        runner: Runner,
        runtimes: Callable[[], Awaitable[Sequence[str]]],
        dependencies: Dependencies,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._code = code
        self._runner = runner
        self._runtimes = runtimes
        self._dependencies = dependencies
        self._clock = clock

    async def run(self, app: str, push: Push, by: str) -> AsyncGenerator[PushEvent, None]:
        """Push; the last event has phase `done` or `failed`.

        Closing the iterator early cancels the push: either nothing has moved or everything has.

        Args:
            by: who pushes, for the history.
        """
        begun = time.monotonic()
        events: asyncio.Queue[PushEvent | None] = asyncio.Queue()

        def tell(event: PushEvent) -> None:
            events.put_nowait(replace(event, ms=round((time.monotonic() - begun) * 1000, 1)))

        task = asyncio.create_task(self._run(app, push, by, tell), name=f"push {app}")
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
        finally:
            await end(task)

    async def _run(self, app: str, push: Push, by: str, tell: Tell) -> None:
        name, number = "", 0
        error: Exception
        try:
            tell(PushEvent(phase="done", message=await self._push(app, push, by, tell)))
            return
        except PushRefused as refused:
            name, number, error = str(refused.function), refused.version, refused.error
        except Exception as cause:
            error = cause
        if not isinstance(error, FaasError):
            reference = new_id("push")
            _log.error("a push failed for a reason of ours", app=app, reference=reference, exc_info=error)
            error = Internal(f"the push failed inside the platform; the node's log has {reference}")
        tell(PushEvent(phase="failed", function=name, version=number, message=error.message, error=problem(error)))

    async def _push(self, app: str, push: Push, by: str, tell: Tell) -> str:
        """The whole push. Returns what there is to say at its end."""
        items = check_push(app, push, self._catalog.snapshot, await self._runtimes())
        changed = []
        settler = Settler(self._dependencies, self._code, app, upgrade=push.upgrade)
        for wanted in items:
            function = FunctionName(app, wanted.name)
            item = await self._settled(function, wanted, settler, tell)
            unchanged = self._unchanged(function, item, push.alias)
            if unchanged is not None:
                tell(PushEvent(phase="unchanged", function=str(function), version=unchanged))
                continue
            await self._stored(function, item, tell)
            tell(PushEvent(phase="stored", function=str(function)))
            changed.append(item)
        if not changed:
            return ""
        plans = await to_its_end(self._reserve(app, changed, by))
        await self._start_all(plans, tell)
        superseded = await to_its_end(self._publish(plans, push.alias))
        for plan in plans:
            if plan.id not in superseded:
                self._tell_moved(plan, push.alias, tell)
        return " ".join(f"{name}@{number} is newer and stays {push.alias}." for name, number in superseded.items())

    def _unchanged(self, name: FunctionName, item: FunctionPush, alias: str) -> int | None:
        """The version that `alias` wholly points to, if `item` is the same."""
        function = self._catalog.peek(name)
        weights = function.aliases.get(alias, {}) if function else {}
        if function is None or len(weights) != 1:
            return None
        (number,) = weights
        wanted = Version(number=number, code=item.code, deps=item.deps, settings=item.settings)
        return number if function.versions[number].same_content(wanted) else None

    async def _settled(self, name: FunctionName, item: FunctionPush, settler: Settler, tell: Tell) -> FunctionPush:
        """`item` with its dependencies resolved."""
        try:
            return await settler.settle(item, lambda: tell(PushEvent(phase="resolving", function=str(name))))
        except FaasError as error:
            raise PushRefused(name, error) from error

    async def _stored(self, name: FunctionName, item: FunctionPush, tell: Tell) -> None:
        """Code and dependencies are on this node when this returns."""
        if item.requires is not None and item.deps and not await self._code.here(item.deps):
            tell(PushEvent(phase="installing", function=str(name)))
            try:
                await self._code.fetch(item.deps)
            except FaasError as error:
                raise PushRefused(name, error) from error
        for bundle in filter(None, (item.code, item.deps)):
            if not await self._code.has(bundle) or await self._code.claim([bundle]):
                missing = Invalid(
                    f"{name}: the bundle {bundle[:12]} is not stored here",
                    hint=f"upload it first with PUT /v1/bundles/{bundle}",
                )
                raise PushRefused(name, missing)

    async def _reserve(self, app: str, items: Sequence[FunctionPush], by: str) -> list[_Plan]:
        """Take the next number of each function, creating records that do not exist yet."""
        for _ in range(TRIES):
            now = self._clock()
            records = []
            for item in items:
                name = FunctionName(app, item.name)
                record = self._catalog.peek(name) or Function(app=app, name=item.name, created_at=now)
                records.append(replace(record, latest=record.latest + 1, updated_at=now))
            try:
                saved = await self._registry.apply(put=records)
            except Conflict:
                await self._catalog.load()
                continue
            await self._catalog.until(lambda snapshot: reflects(snapshot, saved))  # noqa: B023  awaited here
            return [
                _Plan(record, _version(record.latest, item, now, by)) for record, item in zip(saved, items, strict=True)
            ]
        raise _busy(app)

    async def _start_all(self, plans: Sequence[_Plan], tell: Tell) -> None:
        """Start every version, a few at once. The first that fails ends the others."""
        gate = asyncio.Semaphore(STARTS_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for plan in plans:
                    group.create_task(self._start(plan, gate, tell), name=f"start {plan.id}")
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _start(self, plan: _Plan, gate: asyncio.Semaphore, tell: Tell) -> None:
        async with gate:
            name, number = str(plan.id), plan.version.number
            limit = plan.version.settings.start_timeout_s + START_MARGIN_S
            tell(PushEvent(phase="starting", function=name, version=number))
            try:
                async with asyncio.timeout(limit):
                    prepared = await self._runner.prepare(plan.function, plan.version)
            except TimeoutError:
                late = StartFailed(
                    f"{name}@{number} was not ready after {limit:g} seconds",
                    hint="see how far it came with: faas logs " + name,
                )
                raise PushRefused(plan.id, late, number) from None
            except FaasError as error:
                self._same_function(plan)  # its removal is why, whatever else came of that
                raise PushRefused(plan.id, error, number) from error
            tell(PushEvent(phase="ready", function=name, version=number, message=prepared.handler))

    async def _publish(self, plans: Sequence[_Plan], alias: str) -> dict[FunctionName, int]:
        """Move the alias of every function in one write: all or none.

        Returns:
            Functions whose alias a newer push has moved meanwhile, with its number. The outcome is as if
            this push had come just before that one.
        """
        for _ in range(TRIES):
            superseded: dict[FunctionName, int] = {}
            records = []
            for plan in plans:
                current = self._same_function(plan)
                newest = max(current.aliases.get(alias, {}), default=0)
                if newest > plan.version.number:
                    superseded[plan.id] = newest
                    continue
                moved = point(current, {alias: {plan.version.number: 100}}, [plan.version])
                records.append(replace(moved, updated_at=self._clock()))
            check_changes(records, (), self._catalog.snapshot)
            try:
                versions = [(plan.id, plan.version) for plan in plans]
                saved = await self._registry.apply(put=records, versions=versions)
            except Conflict:
                await self._catalog.load()
                continue
            await self._catalog.until(lambda snapshot: reflects(snapshot, saved))  # noqa: B023  awaited here
            return superseded
        raise _busy(plans[0].id.app)

    def _same_function(self, plan: _Plan) -> Function:
        current = self._catalog.peek(plan.id)
        if current is None or current.created_at != plan.function.created_at:
            gone = Conflict(f"{plan.id} was removed while it was being pushed", hint="push it again")
            raise PushRefused(plan.id, gone, plan.version.number)
        return current

    def _tell_moved(self, plan: _Plan, alias: str, tell: Tell) -> None:
        target = Target(plan.id, None, alias)
        url = f"{self._runner.node_info().url.rstrip('/')}/function/{target}"
        tell(
            PushEvent(
                phase="live" if alias == LIVE else "preview",
                function=str(plan.id),
                version=plan.version.number,
                url=url,
            )
        )


def _version(number: int, item: FunctionPush, now: float, by: str) -> Version:
    return Version(
        number=number,
        code=item.code,
        deps=item.deps,
        requires=declaration(item.requires, item.settings.runtime) if item.requires else "",
        settings=item.settings,
        created_at=now,
        created_by=by,
    )


def _busy(app: str) -> Conflict:
    return Conflict(f"app {app} was changed by others {TRIES} times in a row", hint="push it again")
