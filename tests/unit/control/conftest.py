from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.unit.control.world import World, make_world


@pytest.fixture
async def world(fresh_redis: Callable[[], str], tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(fresh_redis(), tmp_path) as made:
        yield made
