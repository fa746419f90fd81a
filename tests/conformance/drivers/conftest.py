"""Every driver behind one fixture; each test sees what it left behind counted."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from faas.drivers.docker import DockerDriver
from faas.drivers.fake import FakeDriver
from faas.drivers.process import ProcessDriver
from faas.ids import new_id
from tests.conformance.drivers.bench import Bench
from tests.leftovers import assert_nothing_left
from tests.support import require

KINDS = ("fake", "plain", "bwrap", "docker")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not tmp_path: a socket's path ends at 107 bytes, and instances are not root."""
    folder = Path(tempfile.mkdtemp(prefix="faas-drv-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=[pytest.param(kind, marks=[pytest.mark.docker] * (kind == "docker")) for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "docker":
        require("docker", "images")
    if name == "bwrap":
        require("bwrap")
    return name


def make(kind: str, node: str, data_dir: Path) -> Any:
    """A driver that has not been entered."""
    match kind:
        case "fake":
            return FakeDriver(node_id=node)
        case "docker":
            return DockerDriver(node, data_dir)
        case _:
            return ProcessDriver(node, data_dir, sandboxed=kind == "bwrap")


@pytest.fixture
async def bench(kind: str, data_dir: Path) -> AsyncIterator[Bench]:
    node = new_id("n")
    async with make(kind, node, data_dir) as driver:
        yield Bench(driver, data_dir, node)
    labels = {"faas.node": node} if kind == "docker" else None
    await assert_nothing_left(data_dir, labels=labels)
