"""What is kept and what goes: histories, the index of bundles, the audit trail. Against both servers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from faas.model import Function, Settings, Version
from faas.names import FunctionName
from faas.store import keys
from faas.store.audit import AuditEntry, AuditLog, Touched
from faas.store.blobs import Blobs
from faas.store.connection import connect
from faas.store.registry import Registry

A, B = "aa" * 32, "bb" * 32
HELLO = FunctionName("shop", "hello")


def version(number: int) -> Version:
    return Version(number=number, code=A, settings=Settings())


async def hello(registry: Registry) -> Function:
    """With versions 1 to 3."""
    versions = [(HELLO, version(number)) for number in (1, 2, 3)]
    (saved,) = await registry.apply(put=[Function(app="shop", name="hello", latest=3)], versions=versions)
    return saved


async def test_versions_are_forgotten_under_a_guard(registry: Registry) -> None:
    function = await hello(registry)
    assert not await registry.forget(replace(function, rev=function.rev + 1), [1])
    assert not await registry.forget(Function(app="shop", name="none", rev=1), [1])
    assert await registry.forget(function, [1, 2, 9])
    assert [kept.number for kept in await registry.versions(HELLO)] == [3]
    assert await registry.forget(function, []), "nothing to do, and the record is as it was"


async def test_many_versions_at_once(registry: Registry) -> None:
    await hello(registry)
    other = FunctionName("shop", "other")
    assert await registry.some_versions([(HELLO, 2), (HELLO, 9), (other, 1)]) == [version(2), None, None]
    assert await registry.some_versions([]) == []
    names = [HELLO, *(FunctionName("shop", f"f{number}") for number in range(250))]
    histories = await registry.histories(names)
    assert [found.number for found in histories[HELLO]] == [1, 2, 3]
    assert (len(histories), histories[names[-1]]) == (251, [])


async def test_bundles_that_nobody_asks_for(redis: Redis) -> None:
    blobs = Blobs(redis)
    await blobs.put(A, b"x")
    await blobs.note(B)
    assert await blobs.touch([A, B, "cc" * 32]) == {A, B}
    assert await blobs.touch([]) == set()
    assert await blobs.idle(60) == []
    assert sorted(await blobs.idle(0)) == [A, B]
    assert await blobs.sweep([A, B], 60) == 0, "asked for lately"
    await redis.zadd(keys.CODES, {A: 1000.0})
    assert await blobs.idle(60) == [A]
    await blobs.touch([A])
    assert await blobs.sweep([A], 60) == 0, "asked for in between"
    assert await blobs.sweep([A, B, "cc" * 32], 0) == 2
    assert await blobs.get(A) is None
    assert await blobs.touch([A, B]) == set()


async def test_more_bundles_than_one_script_takes(redis: Redis) -> None:
    blobs, shas = Blobs(redis), [f"{number:064x}" for number in range(1200)]
    await redis.zadd(keys.CODES, dict.fromkeys(shas, 1.0))
    assert await blobs.touch(shas[:1100]) == set(shas[:1100])
    assert await blobs.sweep(shas, 60) == 100


def entry(number: int, **more: Any) -> AuditEntry:
    return AuditEntry(by="me", verb=f"v{number}", outcome="ok", **more)


async def test_audit(redis: Redis, server_url: str) -> None:
    log = AuditLog(redis, lambda: connect(server_url, blocking=True))
    assert await log.newest(5, lambda _: True) == ([], "0-0")
    await log.add([entry(n, functions=(Touched("a", 1, 2),)) for n in range(1300)])
    await redis.xadd(keys.AUDIT, {"e": "not an entry"})
    page = await log.newest(2, lambda found: int(found.verb[1:]) < 5)
    assert [found.verb for found in page.entries] == ["v3", "v4"], "as far back as it takes"
    assert page.entries[0].functions == (Touched("a", 1, 2),)
    assert page.entries[0].at > 1e9
    assert len((await log.newest(10_000, lambda _: True)).entries) == 1300
    async with asyncio.timeout(20), aclosing(log.follow(page.position, lambda found: found.app == "x")) as coming:  # type: ignore[type-var]
        await log.add([entry(1), entry(2, app="x")])
        assert (await anext(coming)).verb == "v2"


async def test_the_trail_is_capped(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faas.store.audit.LENGTH", 100)
    await AuditLog(redis, lambda: connect("")).add([entry(n) for n in range(1000)])
    assert 100 <= await redis.xlen(keys.AUDIT) < 300
