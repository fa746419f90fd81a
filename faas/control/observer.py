"""Counts calls of versions in rollout on this node and tells Redis every two seconds; beside any rollout: nothing.

Invoker --note--> numbers in memory --every PUBLISH_S--> Redis hash, one field a node --> the leader adds them up
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec
import structlog

from faas.control.rollout import Rollout
from faas.errors import FaasError
from faas.model import Function
from faas.names import FunctionName
from faas.policy.rollout import Seen
from faas.store.sightings import Sightings

PUBLISH_S = 2.0

_log = structlog.get_logger("faas.rollout")
_encode = msgspec.msgpack.Encoder().encode


class _Watched:
    """One function in rollout: what is counted under one tag."""

    __slots__ = ("changed", "seen", "tag")

    def __init__(self, rollout: Rollout) -> None:
        self.tag = rollout.tag
        self.seen = {rollout.live: Seen(), rollout.version: Seen()}
        self.changed = False


class Observer:
    """Keep `run` going in a task."""

    def __init__(self, node_id: str, sightings: Sightings, going: Callable[[], Mapping[FunctionName, Rollout]]) -> None:
        self._node_id = node_id
        self._sightings = sightings
        self._going = going
        self.watching = False
        """True while any function is in rollout: else nobody need ask."""
        self._watched: dict[str, dict[str, _Watched]] = {}
        """By app, then by name: a call finds its entry without making a name."""

    def sync(self) -> None:
        """Follow which functions are in rollout: call it after each change of the registry."""
        watched: dict[str, dict[str, _Watched]] = {}
        for name, rollout in self._going().items():
            old = self._watched.get(name.app, {}).get(name.name)
            kept = old if old is not None and old.tag == rollout.tag else _Watched(rollout)
            watched.setdefault(name.app, {})[name.name] = kept
        self._watched = watched
        self.watching = bool(watched)

    def note(self, function: Function, version: int, seconds: float | None, *, failed: bool) -> None:
        """Count one call that has ended. `seconds`: in its instance, None when that says nothing."""
        watched = self._watched.get(function.app, {}).get(function.name)
        if watched is not None and (seen := watched.seen.get(version)) is not None:
            seen.add(seconds, failed=failed)
            watched.changed = True

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await asyncio.sleep(PUBLISH_S)
            await self.publish()

    async def publish(self) -> None:
        """Tell Redis what has changed since the last time; what it did not hear is told again."""
        news = {
            FunctionName(app, name).key: watched
            for app, names in self._watched.items()
            for name, watched in names.items()
            if watched.changed
        }
        if not news:
            return
        for watched in news.values():
            watched.changed = False
        reports = {function: (watched.tag, _encode(watched.seen)) for function, watched in news.items()}
        try:
            await self._sightings.publish(self._node_id, reports)
        except FaasError as error:
            for watched in news.values():
                watched.changed = True
            _log.debug("what this node saw of rollouts is told later", error=error.message)
