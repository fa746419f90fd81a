"""The background calls this node has under a lease, shared by those who run them and those who answer their steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from faas.store.queue.model import Job


class Held:
    """One job under a lease. `task` runs it; `steps` are the results of its steps, once somebody asked."""

    __slots__ = ("began", "job", "steps", "task")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.began = time.time()
        """Unix seconds."""
        self.task: asyncio.Task[None] | None = None
        self.steps: dict[str, bytes] | None = None


class Holdings:
    """All of them, by id, and the bytes of their inputs."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def get(self, id: str) -> Held | None:
        """The job of this id, if it is here."""
        return self._held.get(id)

    def add(self, job: Job) -> Held:
        """Begin to hold it. A second take of the same job replaces the first, whose lease was lost."""
        before = self._held.get(job.id)
        if before is not None:
            self.drop(before)
            if before.task is not None:
                before.task.cancel("its lease was lost")
        held = self._held[job.id] = Held(job)
        self.bytes += len(job.input.body)
        return held

    def drop(self, held: Held) -> None:
        """Hold it no longer. Harmless when another take has its place."""
        if self._held.get(held.job.id) is held:
            del self._held[held.job.id]
            self.bytes -= len(held.job.input.body)

    def leases(self) -> list[tuple[str, int]]:
        """(id, take) of each."""
        return [(id, held.job.take) for id, held in self._held.items()]
