"""Functions, their versions and secrets: one hash, changed by one script, followed through one stream.

A record is `REVISION PAYLOAD`. A writer says which revision it read; the script applies all changes or none.
Readers hold a `Snapshot`, swap it whole, and never see half of an apply.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import structlog
from redis.asyncio import Redis

from faas.errors import Conflict, Internal, Invalid, Unavailable
from faas.model import Function, Version
from faas.names import FunctionName, parse_key
from faas.store import keys, records
from faas.store.connection import translated
from faas.store.records import Record, Snapshot
from faas.store.scripts import Scripts

__all__ = ["Change", "Record", "Registry", "Snapshot"]

STREAM_LENGTH = 10_000
_FOLLOW_MOST = 1_000
_HISTORIES = 100
_BLOCK_MS = 5_000
_REPLY_S = 10.0
_BACKOFF_S = (0.05, 2.0)

_log = structlog.get_logger(__name__)


class Change(NamedTuple):
    """One change of a record of any kind, for what has no method of its own yet (tokens, apps, rollouts)."""

    field: str
    """A kind of `keys.KINDS` and a key, such as `t:SHA256`; no line breaks."""
    payload: bytes | None
    """None: delete it; a record that is not there is fine unless `guard` says otherwise."""
    guard: int | None = None
    """Revision it was read at; 0: must not exist; None: whatever it is."""


class Registry:
    """The registry in one Redis.

    Args:
        redis: client for single commands.
        connect: makes the client that `watch` blocks on, without a reply timeout.
    """

    def __init__(self, redis: Redis, connect: Callable[[], Awaitable[Redis]]) -> None:
        self._redis = redis
        self._connect = connect

    async def load(self) -> Snapshot:
        """Everything, as of one moment. Raises Unavailable."""
        with translated():
            return await _load(self._redis)

    async def apply(
        self,
        *,
        put: Sequence[Function] = (),
        delete: Sequence[Function] = (),
        versions: Sequence[tuple[FunctionName, Version]] = (),
        put_secrets: Mapping[str, bytes] | None = None,
        delete_secrets: Sequence[str] = (),
        records: Sequence[Change] = (),
    ) -> list[Function]:
        """All of it or nothing, in one step; returns `put` with their new revisions.

        Args:
            put, delete: functions carrying the `rev` they were read at (0: must not exist yet). Deleting one
                deletes its version history.
            versions: new entries of histories. Adding the same one again is fine.
            put_secrets, delete_secrets: by `APP/NAME`; the last writer wins.

        Raises:
            Conflict: someone else changed one of them meanwhile; nothing was written.
            Unavailable: Redis does not answer; it may have been applied. A repeat applies or conflicts.
        """
        changes = [Change(keys.FUNCTION + f.id.key, _encode(f), f.rev) for f in put]
        changes += [Change(keys.FUNCTION + f.id.key, None, f.rev) for f in delete]
        changes += [Change(keys.SECRET + key, sealed) for key, sealed in (put_secrets or {}).items()]
        changes += [Change(keys.SECRET + key, None) for key in delete_secrets]
        changes += records
        if not changes and not versions:
            return []
        high = await self._run(changes, versions, [f.id for f in delete])
        return [msgspec.structs.replace(f, rev=(f.rev or high) + 1) for f in put]

    async def restore(self, known: Snapshot) -> bool:
        """Write `known` into a registry that lost everything; False: somebody else has written to it meanwhile.

        Versions that no alias points to are not in a snapshot, and so are lost. Raises Unavailable.
        """
        functions = [msgspec.structs.replace(function, rev=0) for function in known.functions.values()]
        versions = [(function.id, version) for function in functions for version in function.versions.values()]
        records = [Change(field, record.payload, 0) for field, record in known.others.items()]
        try:
            await self.apply(put=functions, versions=versions, put_secrets=known.secrets, records=records)
        except Conflict:
            return False
        return True

    async def version(self, name: FunctionName, number: int) -> Version | None:
        """A version from the history, or None. Raises Unavailable."""
        with translated():
            found = await self._redis.hget(keys.history(name.key), str(number))
        return None if found is None else _version(name, found)

    async def versions(self, name: FunctionName) -> list[Version]:
        """The whole history, oldest first; empty for an unknown function. Raises Unavailable."""
        with translated():
            found = await self._redis.hgetall(keys.history(name.key))
        return sorted((_version(name, text) for text in found.values()), key=lambda v: v.number)

    async def some_versions(self, wanted: Sequence[tuple[FunctionName, int]]) -> list[Version | None]:
        """Like `version`, for many at the price of one round trip. Raises Unavailable."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for name, number in wanted:
                    pipe.hget(keys.history(name.key), str(number))
                found = await pipe.execute()
        pairs = zip(wanted, found, strict=True)
        return [None if text is None else _version(name, text) for (name, _), text in pairs]

    async def histories(self, names: Sequence[FunctionName]) -> dict[FunctionName, list[Version]]:
        """Like `versions`, for many; in batches, as histories are long. Raises Unavailable."""
        histories: dict[FunctionName, list[Version]] = {}
        for start in range(0, len(names), _HISTORIES):
            batch = names[start : start + _HISTORIES]
            with translated():
                async with self._redis.pipeline(transaction=False) as pipe:
                    for name in batch:
                        pipe.hgetall(keys.history(name.key))
                    found = await pipe.execute()
            for name, texts in zip(batch, found, strict=True):
                histories[name] = sorted((_version(name, text) for text in texts.values()), key=lambda v: v.number)
        return histories

    async def forget(self, function: Function, numbers: Sequence[int]) -> bool:
        """Take versions out of the history; False, and nothing happens, when the record is not at `function.rev`."""
        names = [keys.REGISTRY, keys.history(function.id.key)]
        args: list[str | bytes | int] = [keys.FUNCTION + function.id.key, function.rev, *numbers]
        with translated():
            return bool(await Scripts(self._redis).run("forget", names, args) >= 0)

    async def watch(self, snapshot: Snapshot) -> AsyncIterator[Snapshot]:
        """A new snapshot after each change since `snapshot`, for ever; several changes may come as one.

        Nothing comes while Redis is away, and afterwards what was missed; the outage is logged once. It owns a
        connection: end it with `aclose()` or by cancelling the task that iterates.
        """
        bell: Redis | None = None
        outage = _Outage()
        try:
            while True:
                try:
                    bell = bell or await self._connect()
                    newer = await _advance(bell, snapshot)
                    outage.over()
                    if newer is None:
                        await _ring(bell, snapshot.position)
                        continue
                except Unavailable as error:
                    await _close(bell)
                    bell = None
                    await outage.wait(error)
                    continue
                snapshot = newer
                yield snapshot
        finally:
            await _close(bell)

    async def _run(
        self, changes: list[Change], versions: Sequence[tuple[FunctionName, Version]], gone: list[FunctionName]
    ) -> int:
        names: dict[str, int] = {}
        for name in (*(name for name, _ in versions), *gone):
            names.setdefault(keys.history(name.key), len(names) + 3)
        args: list[str | bytes | int] = [STREAM_LENGTH, len(changes)]
        for change in _checked(changes):
            action = "del" if change.payload is None else "put"
            args += (change.field, "*" if change.guard is None else change.guard, action, change.payload or b"")
        args.append(len(versions))
        for name, version in versions:
            text = msgspec.json.encode(version)
            field = f"v:{name.key}@{version.number}"
            args += (names[keys.history(name.key)], version.number, text, field)
        args += (names[keys.history(name.key)] for name in gone)
        with translated():
            reply = await Scripts(self._redis).run("apply", [keys.REGISTRY, keys.CHANGES, *names], args)
        if reply[0] != b"ok":
            raise _conflict(reply[1].decode(), int(reply[2]))
        return int(reply[2])


class _Outage:
    """Back-off between tries, and one line when it begins and ends."""

    def __init__(self) -> None:
        self._delay = 0.0

    async def wait(self, error: Unavailable) -> None:
        first, most = _BACKOFF_S
        if not self._delay:
            _log.warning(
                "registry: Redis is away; known functions go on as they are, changes wait", error=error.message
            )
        self._delay = min(self._delay * 2 or first, most)
        await asyncio.sleep(self._delay)

    def over(self) -> None:
        if self._delay:
            _log.info("registry: Redis is back; changes are followed again")
        self._delay = 0.0


async def _load(redis: Redis) -> Snapshot:
    async with redis.pipeline(transaction=True) as pipe:
        pipe.xrevrange(keys.CHANGES, count=1)
        pipe.hgetall(keys.REGISTRY)
        last, fields = await pipe.execute()
    position = last[0][0].decode() if last else "0-0"
    return records.apply_fields(Snapshot(position=position), position, fields)


async def _advance(redis: Redis, old: Snapshot) -> Snapshot | None:
    """The snapshot after `old`, or None when nothing happened."""
    with translated():
        async with asyncio.timeout(_REPLY_S):
            reply = await Scripts(redis).run("since", [keys.REGISTRY, keys.CHANGES], [old.position, _FOLLOW_MOST])
            if reply[0] == b"same":
                return None
            if reply[0] == b"changed":
                pairs = reply[2]
                changed = dict(zip(pairs[::2], pairs[1::2], strict=True))
                return records.apply_fields(old, reply[1].decode(), changed)
            return await _load(redis)


async def _ring(redis: Redis, position: str) -> None:
    """Wait for a change after `position`, at most `_BLOCK_MS`: then the caller looks anyway."""
    with translated():
        async with asyncio.timeout(_BLOCK_MS / 1000 + _REPLY_S):
            await redis.xread({keys.CHANGES: position}, count=1, block=_BLOCK_MS)


async def _close(redis: Redis | None) -> None:
    if redis is not None:
        await redis.aclose()


def _encode(function: Function) -> bytes:
    # The revision lives in front of the record, where the script can read it without parsing JSON.
    return msgspec.json.encode(msgspec.structs.replace(function, rev=0))


def _version(name: FunctionName, text: bytes | str) -> Version:
    try:
        return msgspec.json.decode(text, type=Version)
    except msgspec.MsgspecError as cause:
        raise Internal(f'a version of "{name}" in Redis is not readable: {cause}') from cause


def _checked(changes: list[Change]) -> list[Change]:
    seen: set[str] = set()
    for change in changes:
        if not change.field.startswith(keys.KINDS) or "\n" in change.field:
            raise Invalid(f"{change.field[:80]!r} is not a registry field: KIND:KEY, kinds {' '.join(keys.KINDS)}")
        if change.field in seen:
            raise Invalid(f"{change.field!r} is changed twice in one apply")
        seen.add(change.field)
    return changes


def _conflict(field: str, found: int) -> Conflict:
    kind, key = field[:2], field[2:]
    if kind == "v:":
        base, _, number = key.partition("@")
        what = f'version {number} of "{parse_key(base)}" was given to other content'
    elif kind == keys.FUNCTION:
        what = f'function "{parse_key(key)}" was {"changed" if found else "deleted"}'
    else:
        what = f'record "{field}" was {"changed" if found else "deleted"}'
    return Conflict(f"{what} meanwhile by someone else; nothing was changed", hint="Run it again.")
