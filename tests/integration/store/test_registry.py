"""The registry against real servers: all or nothing, guards, snapshots that are never half of a change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import msgspec
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from faas.errors import Conflict, Internal, Invalid, Unavailable
from faas.model import Function, Scale, Settings, Version
from faas.names import FunctionName
from faas.store import keys
from faas.store.connection import connect
from faas.store.registry import Change, Record, Registry, Snapshot

HELLO = FunctionName("default", "hello")
WAIT_S = 10.0


def _version(number: int, code: str = "a" * 64) -> Version:
    return Version(number=number, code=code, settings=Settings(env={"rev": "5", "k": '"rev":9 é'}))


def _function(name: str = "hello", app: str = "default", number: int = 1, rev: int = 0) -> Function:
    version = _version(number)
    return Function(
        app=app, name=name, aliases={"live": {number: 100}}, versions={number: version}, latest=number, rev=rev
    )


@asynccontextmanager
async def _watching(registry: Registry, start: Snapshot) -> AsyncIterator[Callable[[], Awaitable[Snapshot]]]:
    """`await next()` gives the next snapshot, within bounds."""
    async with aclosing(registry.watch(start)) as watch:  # type: ignore[type-var]
        yield lambda: asyncio.wait_for(anext(watch), WAIT_S)


async def test_an_empty_registry_loads(registry: Registry) -> None:
    assert await registry.load() == Snapshot()
    assert await registry.apply() == []


async def test_what_is_applied_is_loaded(registry: Registry) -> None:
    function = msgspec.structs.replace(_function(), scale=Scale(min=1))
    (saved,) = await registry.apply(put=[function], put_secrets={"default/KEY": b"\x00 sealed \xff"})
    assert saved == msgspec.structs.replace(function, rev=1)
    snapshot = await registry.load()
    assert snapshot.functions == {"default/hello": saved}
    assert snapshot.secrets == {"default/KEY": b"\x00 sealed \xff"}
    assert snapshot.position != "0-0"


async def test_revisions_rise_by_one_and_guard(registry: Registry) -> None:
    (first,) = await registry.apply(put=[_function()])
    (second,) = await registry.apply(put=[first])
    assert (first.rev, second.rev) == (1, 2)
    for stale in (first, _function()):
        with pytest.raises(Conflict, match='"hello" was changed meanwhile by someone else'):
            await registry.apply(put=[stale])
    with pytest.raises(Conflict, match='"hello" was changed'):
        await registry.apply(delete=[first])
    assert (await registry.load()).functions["default/hello"] == second


async def test_a_conflict_changes_nothing_at_all(registry: Registry) -> None:
    (hello,) = await registry.apply(put=[_function()])
    before = await registry.load()
    stale = msgspec.structs.replace(hello, rev=7)
    with pytest.raises(Conflict):
        await registry.apply(
            put=[_function("new"), stale],
            versions=[(HELLO, _version(9))],
            put_secrets={"default/KEY": b"x"},
        )
    assert await registry.load() == before
    assert await registry.versions(HELLO) == []


async def test_a_deleted_functions_revisions_never_come_back(registry: Registry) -> None:
    (hello,) = await registry.apply(put=[_function()], versions=[(HELLO, _version(1))])
    await registry.apply(delete=[hello])
    assert (await registry.load()).functions == {}
    assert await registry.versions(HELLO) == []
    (again,) = await registry.apply(put=[_function()])
    assert again.rev == 2
    with pytest.raises(Conflict):
        await registry.apply(put=[hello])
    assert (await registry.load()).functions["default/hello"] == again


async def test_changing_what_was_deleted_says_so(registry: Registry) -> None:
    (hello,) = await registry.apply(put=[_function()])
    await registry.apply(delete=[hello])
    with pytest.raises(Conflict, match='"hello" was deleted meanwhile'):
        await registry.apply(put=[hello])


async def test_versions_are_immutable(registry: Registry) -> None:
    for number in (10, 9, 2):
        await registry.apply(versions=[(HELLO, _version(number))])
    await registry.apply(versions=[(HELLO, _version(9))])
    with pytest.raises(Conflict, match='version 9 of "hello" was given to other content'):
        await registry.apply(versions=[(HELLO, _version(9, code="b" * 64))])
    assert [v.number for v in await registry.versions(HELLO)] == [2, 9, 10]
    assert await registry.version(HELLO, 9) == _version(9)
    assert await registry.version(HELLO, 3) is None
    assert await registry.versions(FunctionName("default", "other")) == []


async def test_ten_writers_of_one_record_lose_nothing(registry: Registry) -> None:
    await registry.apply(put=[msgspec.structs.replace(_function(), latest=0)])

    async def add() -> None:
        while True:
            current = (await registry.load()).functions["default/hello"]
            try:
                await registry.apply(put=[msgspec.structs.replace(current, latest=current.latest + 1)])
            except Conflict:
                continue
            return

    await asyncio.wait_for(asyncio.gather(*(add() for _ in range(10))), WAIT_S)
    saved = (await registry.load()).functions["default/hello"]
    assert (saved.latest, saved.rev) == (10, 11)


async def test_secrets_are_deleted_and_unknown_ones_are_fine(registry: Registry) -> None:
    await registry.apply(put_secrets={"a/K": b"1", "a/L": b"2"})
    await registry.apply(delete_secrets=["a/K", "a/M"])
    assert (await registry.load()).secrets == {"a/L": b"2"}


async def test_records_of_other_kinds(registry: Registry) -> None:
    field = keys.TOKEN + "0" * 64
    await registry.apply(records=[Change(field, b"{}", 0)])
    assert (await registry.load()).others == {field: Record(1, b"{}")}
    with pytest.raises(Conflict, match="t:000"):
        await registry.apply(records=[Change(field, b"{}", 0)])
    await registry.apply(records=[Change(field, None)])
    assert (await registry.load()).others == {}


@pytest.mark.parametrize("field", ["x:y", "high", "f:a\nf:b"])
async def test_fields_outside_the_scheme_are_refused(registry: Registry, field: str) -> None:
    with pytest.raises(Invalid, match="not a registry field"):
        await registry.apply(records=[Change(field, b"")])


async def test_the_same_record_twice_is_refused(registry: Registry) -> None:
    with pytest.raises(Invalid, match="twice"):
        await registry.apply(put=[_function(), _function()])


async def test_a_broken_record_does_not_take_the_others_down(registry: Registry, redis: Redis) -> None:
    (hello,) = await registry.apply(put=[_function()], versions=[(HELLO, _version(1))])
    await redis.hset(keys.REGISTRY, mapping={"f:a/b": b"1 {not json", "f:a/c": b"no revision", "z:new": b"1 x"})
    assert (await registry.load()).functions == {"default/hello": hello}
    await redis.hset(keys.history(HELLO.key), "2", b"{}")
    with pytest.raises(Internal, match='"hello"'):
        await registry.versions(HELLO)


async def test_watch_follows(registry: Registry) -> None:
    async with _watching(registry, await registry.load()) as following:
        (hello,) = await registry.apply(put=[_function()])
        one = await following()
        assert one.functions == {"default/hello": hello}
        (more,) = await registry.apply(put=[_function("more")], put_secrets={"default/K": b"1"})
        two = await following()
        assert two.functions == {"default/hello": hello, "default/more": more}
        assert two.secrets == {"default/K": b"1"}
        await registry.apply(delete=[hello])
        assert set((await following()).functions) == {"default/more"}
        assert set(one.functions) == {"default/hello"}, "an old snapshot never changes"


async def test_watch_starts_where_the_snapshot_ends(registry: Registry) -> None:
    start = await registry.load()
    await registry.apply(put=[_function("a")])
    await registry.apply(put=[_function("b")])
    async with _watching(registry, start) as following:
        assert set((await following()).functions) == {"default/a", "default/b"}


async def test_readers_never_see_half_of_an_app(registry: Registry) -> None:
    names = [f"f{i}" for i in range(50)]
    current = await registry.apply(put=[_function(name, "shop") for name in names])

    async def read(start: Snapshot) -> None:
        async with _watching(registry, start) as following:
            snapshot = start
            while snapshot.functions["shop/f0"].latest < 30:
                snapshot = await following()
                assert len({f.latest for f in snapshot.functions.values()}) == 1

    readers = [asyncio.create_task(read(await registry.load())) for _ in range(4)]
    for latest in range(2, 31):
        current = await registry.apply(put=[msgspec.structs.replace(f, latest=latest) for f in current])
    await asyncio.wait_for(asyncio.gather(*readers), WAIT_S)


async def test_watch_reloads_when_the_stream_was_trimmed_past_it(registry: Registry, redis: Redis) -> None:
    start = await registry.load()
    await registry.apply(put=[_function("a")])
    await registry.apply(put=[_function("b")])
    await redis.xtrim(keys.CHANGES, maxlen=1, approximate=False)
    async with _watching(registry, start) as following:
        assert set((await following()).functions) == {"default/a", "default/b"}


@pytest.mark.parametrize("refill", [True, False])
async def test_watch_notices_another_history(registry: Registry, redis: Redis, refill: bool) -> None:
    await registry.apply(put=[_function("a")])
    start = await registry.load()
    await redis.flushall()
    if refill:
        await registry.apply(put=[_function("b")])
    async with _watching(registry, start) as following:
        assert set((await following()).functions) == ({"default/b"} if refill else set())


async def test_watch_survives_a_lost_connection(registry: Registry, redis: Redis) -> None:
    (hello,) = await registry.apply(put=[_function()])
    async with _watching(registry, await registry.load()) as following:
        waiting = asyncio.ensure_future(following())
        async with asyncio.timeout(WAIT_S):
            while not any(c["cmd"] == "xread" for c in await redis.client_list()):
                await asyncio.sleep(0.01)
        await redis.client_kill_filter(skipme=True, _type="normal")
        await registry.apply(put=[hello])
        assert (await waiting).functions["default/hello"].rev == 2


async def test_watch_ends_when_its_task_is_cancelled(registry: Registry, redis: Redis) -> None:
    async def run() -> None:
        async for _ in registry.watch(await registry.load()):
            pass

    task = asyncio.create_task(run())
    async with asyncio.timeout(WAIT_S):
        while not any(c["cmd"] == "xread" for c in await redis.client_list()):
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task], timeout=WAIT_S)
    assert task.cancelled()


async def test_without_redis_everything_says_unavailable() -> None:
    url = "unix:///nonexistent/redis.sock"
    with pytest.raises(Unavailable, match="nonexistent"):
        await connect(url)
    async with Redis(unix_socket_path="/nonexistent/redis.sock", retry=Retry(NoBackoff(), 0)) as dead:
        with pytest.raises(Unavailable, match="does not answer"):
            await Registry(dead, lambda: connect(url)).load()


async def test_a_thousand_functions_in_one_step_take_redis_little_time(registry: Registry, redis: Redis) -> None:
    functions = [_function(f"f{i}", "big") for i in range(1000)]
    versions = [(f.id, f.versions[1]) for f in functions]
    saved = await registry.apply(put=functions, versions=versions)
    await redis.config_resetstat()
    await registry.apply(put=saved, versions=[(name, _version(2)) for name, _ in versions])
    stats = await redis.info("commandstats")
    used = stats["cmdstat_evalsha"]["usec_per_call"] / 1000
    print(f"1,000 functions and versions: {used:.1f} ms in Redis")
    assert used < 100, f"{used} ms; 5 to 10 ms on a quiet machine"
    assert len((await registry.load()).functions) == 1000
