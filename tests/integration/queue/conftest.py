"""A queue on each server we promise to work with, and a look at what a test has left in it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from faas.store.connection import connect
from faas.store.embedded import EmbeddedRedis
from faas.store.queue import Queue, Reads
from faas.store.server import find_binary
from tests.support import require


@pytest.fixture(scope="session", params=["redis-server", "embedded"])
def queue_binary(request: pytest.FixtureRequest) -> Path:
    """A system's Redis, and the Valkey that comes with the package."""
    if request.param == "embedded":
        return find_binary()
    require("redis")
    return Path(shutil.which("redis-server") or "")


@pytest.fixture(scope="session")
async def queue_url(queue_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with EmbeddedRedis(tmp_path_factory.mktemp("queue"), queue_binary) as server:
        yield server.url


@pytest.fixture
async def redis(queue_url: str) -> AsyncIterator[Redis]:
    """A client of an empty server."""
    client = await connect(queue_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return Queue(redis)


@pytest.fixture
def reads(redis: Redis) -> Reads:
    return Reads(redis)
