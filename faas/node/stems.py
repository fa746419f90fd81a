"""Stem cells: started instances without a function, kept ready per runtime and network.

A cold start takes one and fills it in milliseconds; starting a container takes 150 and more. Refilled in the
background, one at a time, and never while a caller waits for a start: `busy` says when that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from faas.errors import FaasError, Unavailable
from faas.node.instance import Instance
from faas.node.lifecycle import State
from faas.store.tasks import end

log = structlog.get_logger(__name__)

RETRY_S = 5.0
"""Seconds between refills while starting fails."""


class Kind(NamedTuple):
    """What a stem cell can become."""

    runtime: str
    network: str


class Stems:
    """Keeps `size` stem cells of every kind in use. An async context manager; leaving ends them all."""

    def __init__(
        self,
        *,
        size: int,
        launch: Callable[[Kind], Awaitable[Instance]],
        destroy: Callable[[Instance], Awaitable[None]],
        dead: Callable[[Instance], None],
        busy: Callable[[], bool],
    ) -> None:
        self._size = size
        self._launch = launch
        self._destroy = destroy
        self._dead = dead
        self._busy = busy
        self._cells: dict[Kind, list[Instance]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.problem = ""
        """Why the last refill failed; empty when it worked."""

    async def __aenter__(self) -> Stems:
        self._task = asyncio.create_task(self._refill(), name="stem-refill")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            await end(self._task)
        cells = [cell for kind in self._cells.values() for cell in kind]
        self._cells.clear()
        await asyncio.gather(*(self._destroy(cell) for cell in cells), return_exceptions=True)

    def use(self, kind: Kind) -> None:
        """Keep cells of this kind from now on."""
        if kind not in self._cells:
            self._cells[kind] = []
            self._wake.set()

    def take(self, kind: Kind) -> Instance | None:
        """A stem cell of this kind, now the caller's; None when there is none. Wakes the refill."""
        self.use(kind)
        cells = self._cells[kind]
        while cells:
            cell = cells.pop()
            self._wake.set()
            if cell.state is State.STEM:
                cell.owner = None
                return cell
            cell.die(Unavailable("its process was just being replaced"))
        self._wake.set()
        return None

    def put(self, kind: Kind, cell: Instance) -> None:
        """Give back a cell that was taken and has not been given a function."""
        if cell.state is State.DEAD:
            self._dead(cell)
            return
        cell.owner = self
        self._cells[kind].append(cell)

    def poke(self) -> None:
        """Look again whether something is missing: a busy time has ended."""
        self._wake.set()

    def cells(self) -> list[Instance]:
        """All of them, for counting, pinging and eviction."""
        return [cell for kind in self._cells.values() for cell in kind]

    # Owner ------------------------------------------------------------------------------------------------

    def slot_free(self, instance: Instance, seconds: float) -> None:
        """Never: a stem cell runs no calls. Part of `Owner`."""

    def retired(self, instance: Instance) -> None:
        """Never: a stem cell runs no calls. Part of `Owner`."""

    def reloaded(self, instance: Instance) -> None:
        """Never: a stem cell has no function to load. Part of `Owner`."""

    def unready(self, instance: Instance, error: FaasError) -> None:
        """Its idle child died and is forked anew. Part of `Owner`."""

    def dead(self, instance: Instance, error: FaasError) -> None:
        """Gone (engine restarted, killed by hand): remove what is left and refill. Part of `Owner`."""
        for cells in self._cells.values():
            if instance in cells:
                cells.remove(instance)
        self._dead(instance)
        self._wake.set()

    # Refill -----------------------------------------------------------------------------------------------

    def _missing(self) -> Kind | None:
        return next((kind for kind, cells in self._cells.items() if len(cells) < self._size), None)

    async def _refill(self) -> None:
        while True:
            kind = self._missing()
            if kind is None or self._busy():
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                cell = await self._launch(kind)
            except FaasError as error:
                if self.problem != error.message:
                    log.warning("no stem cell: cold starts will be slow", runtime=kind.runtime, error=error.message)
                self.problem = error.message
                await asyncio.sleep(RETRY_S)
                continue
            self.problem = ""
            cell.owner = self
            self._cells[kind].insert(0, cell)
