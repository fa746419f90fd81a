"""Both servers we promise to work with, each started as the embedded one."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from faas.store.connection import connect
from faas.store.embedded import EmbeddedRedis
from faas.store.registry import Registry
from faas.store.server import find_binary
from tests.support import require


@pytest.fixture(scope="session", params=["redis-server", "embedded"])
def server_binary(request: pytest.FixtureRequest) -> Path:
    """A system's Redis, and the Valkey that comes with the package."""
    if request.param == "embedded":
        return find_binary()
    require("redis")
    return Path(shutil.which("redis-server") or "")


@pytest.fixture(scope="session")
async def server_url(server_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with EmbeddedRedis(tmp_path_factory.mktemp("server"), server_binary) as server:
        yield server.url


@pytest.fixture
async def redis(server_url: str) -> AsyncIterator[Redis]:
    """A client of an empty server."""
    client = await connect(server_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def registry(redis: Redis, server_url: str) -> Registry:
    return Registry(redis, lambda: connect(server_url, blocking=True))
