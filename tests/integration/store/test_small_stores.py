"""Blobs, scripts, connections and the durability check against real servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from faas.errors import TooLarge, Unavailable
from faas.store import keys
from faas.store.blobs import BLOB_MAX, Blobs
from faas.store.connection import connect, translated
from faas.store.durability import check_durability
from faas.store.scripts import Scripts

SHA = "ab" * 32


@pytest.fixture
async def config(redis: Redis) -> AsyncIterator[Redis]:
    """A client whose server settings are put back."""
    before = await redis.config_get("appendonly", "appendfsync", "maxmemory-policy", "maxmemory")
    yield redis
    for key, value in before.items():
        await redis.config_set(key or "", value or "")


async def test_blobs(redis: Redis) -> None:
    blobs = Blobs(redis)
    assert await blobs.get(SHA) is None
    assert not await blobs.exists(SHA)
    await blobs.put(SHA, b"\x00\xff")
    await blobs.put(SHA, b"again, ignored")
    assert await blobs.get(SHA) == b"\x00\xff"
    assert await blobs.exists(SHA)
    await blobs.delete(SHA)
    await blobs.delete(SHA)
    assert not await blobs.exists(SHA)


async def test_the_largest_blob_fits_and_one_byte_more_does_not(redis: Redis) -> None:
    blobs = Blobs(redis)
    await blobs.put(SHA, bytes(BLOB_MAX))
    assert len(await blobs.get(SHA) or b"") == BLOB_MAX
    with pytest.raises(TooLarge, match="10MiB"):
        await blobs.put(SHA, bytes(BLOB_MAX + 1))


async def test_a_full_redis_says_so(config: Redis) -> None:
    await config.config_set("maxmemory", "1000000")
    with contextlib.suppress(Unavailable):
        await Blobs(config).put(SHA, bytes(2_000_000))
    with pytest.raises(Unavailable, match="full"):
        await Blobs(config).put(SHA[::-1], b"x")


async def test_scripts_come_back_after_a_flush(redis: Redis) -> None:
    scripts = Scripts(redis)
    for _ in range(2):
        await redis.script_flush()
        assert await scripts.run("since", [keys.REGISTRY, keys.CHANGES], ["0-0", 10]) == [b"same"]


@pytest.mark.parametrize(
    ("setting", "ok", "finding"),
    [
        ({"appendfsync": "always"}, True, "always"),
        ({"appendfsync": "everysec"}, True, "can lose what was accepted last"),
        ({"appendonly": "no"}, False, "appendonly is off"),
        ({"maxmemory-policy": "allkeys-lru"}, False, "allkeys-lru"),
    ],
)
async def test_durability(config: Redis, setting: dict[str, str], ok: bool, finding: str) -> None:
    for key, value in setting.items():
        await config.config_set(key, value)
    found = await check_durability(config)
    assert found.ok is ok
    assert finding in found.finding
    assert ok or "--durability memory" in found.fix


@pytest.mark.parametrize(
    ("allowed", "ok", "finding"),
    [("-config", True, "appendfsync is unknown"), ("-config -info", False, "unknown")],
)
async def test_durability_where_config_is_forbidden(
    redis: Redis, server_url: str, allowed: str, ok: bool, finding: str
) -> None:
    await redis.acl_setuser("poor", reset=True, enabled=True, passwords=["+pw"], commands=["+@all", *allowed.split()])
    try:
        poor = await connect(f"{server_url}?username=poor&password=pw")
        found = await check_durability(poor)
        assert (found.ok, finding in found.finding) == (ok, True)
        await poor.aclose()
    finally:
        await redis.acl_deluser("poor")


async def test_a_wrong_password_is_not_repeated(server_url: str) -> None:
    with pytest.raises(Unavailable, match="refuses our credentials") as caught:
        await connect(f"{server_url}?username=nobody&password=hunter2")
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("url", ["nonsense", "http://host/", "redis://:pw@[::1", "redis://h:notaport/", ""])
async def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Unavailable) as caught:
        await connect(url)
    assert "pw" not in caught.value.message


async def test_nobody_at_home() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        await connect("redis://:secret@127.0.0.1:1/0")


async def test_a_write_is_sent_once_even_when_its_reply_is_lost() -> None:
    received = 0

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        while data := await reader.read(4096):
            received += b"INCR" in data
            if b"INCR" in data:
                break
            writer.write(b"+PONG\r\n" if b"PING" in data else b"+OK\r\n" * data.count(b"CLIENT"))
        writer.close()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = await connect(f"redis://127.0.0.1:{port}/0")
        with pytest.raises(RedisConnectionError):
            await client.incr("n")
        await client.aclose()
    assert received == 1


def test_unknown_errors_are_not_translated() -> None:
    with pytest.raises(KeyError), translated():
        raise KeyError("ours")
