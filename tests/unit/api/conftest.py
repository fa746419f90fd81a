from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from faas.api.app import make_api
from tests.unit.api.support import Api
from tests.unit.control.world import World, make_world


@pytest.fixture
async def world(fresh_redis: Callable[[], str], tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(fresh_redis(), tmp_path) as made:
        yield made


@pytest.fixture
async def api(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr("faas.api.recent.AGE_S", 0.0)
    # Like the node's, this server cancels the handler of a client that leaves.
    async with TestClient(TestServer(make_api(world.services))) as client:
        yield Api(client)
