"""Fixtures of the fault tests: commands that are expected to end, and nodes with particular environments."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.integration.node import CliResult, RunningNode
from tests.support import ROOT, dies_with_us

Ends = Callable[..., Awaitable[CliResult]]


@pytest.fixture
def ends() -> Ends:
    """`await ends("faas.serve", "--data-dir", ...)`: run a module that ends by itself; half a minute at most."""

    async def run(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> CliResult:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FAAS_")}
        process = await asyncio.create_subprocess_exec(
            *dies_with_us([sys.executable, "-m", module, *arguments]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=kept | {"NO_COLOR": "1"} | dict(env or {}),
            cwd=ROOT,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), 30)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"{module} {' '.join(arguments)}: still running") from None
        assert process.returncode is not None
        return CliResult(process.returncode, out.decode(), err.decode())

    return run


class NodeMaker(Protocol):
    """`await make(*flags, env=..., wrapper=...)`: a started node of its own, stopped after the test."""

    async def __call__(
        self,
        *flags: str,
        data_dir: Path | None = None,
        env: Mapping[str, str] | None = None,
        wrapper: tuple[str, ...] = (),
        url: str = "",
    ) -> RunningNode: ...


@pytest.fixture
async def make_node(tmp_path: Path) -> AsyncIterator[NodeMaker]:
    """Like `node_factory`, for nodes that need more than flags."""
    async with AsyncExitStack() as stack:
        count = 0

        async def make(
            *flags: str,
            data_dir: Path | None = None,
            env: Mapping[str, str] | None = None,
            wrapper: tuple[str, ...] = (),
            url: str = "",
        ) -> RunningNode:
            nonlocal count
            count += 1
            place = data_dir or tmp_path / f"node{count}"
            place.mkdir(exist_ok=True)
            node = RunningNode(place, *flags, env=env, wrapper=wrapper)
            node.url = url or node.url
            return await stack.enter_async_context(node)

        yield make


@pytest.fixture
def pool_function() -> Path:
    """A function that tells which process answers; waits or dies as asked."""
    return ROOT / "tests" / "fixtures" / "handlers" / "pool.py"
