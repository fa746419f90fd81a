"""Functions that many tests call, pushed once to the shared node as the app `e2e`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from faas.archive import pack
from faas.cli.source import Wishes, collect
from faas.model import FunctionPush, LogLine, Push, Requires
from faas.sdk.client import Client
from tests.integration.node import RunningNode
from tests.support import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
HERE = FIXTURES / "integration"
HANDLERS = FIXTURES / "handlers"
APP = "e2e"

_CORPUS = {
    "echo": HERE / "echo.py",
    "about": HERE / "about.py",
    "event": HANDLERS / "event.py",
    "returns": HANDLERS / "returns.py",
    "raises": HANDLERS / "raises.py",
    "crash": HANDLERS / "crash.py",
}
"""Name -> file. Functions that a single test module needs are pushed by it."""


def write_folder(folder: Path, functions: dict[str, Path], settings: str = "") -> Path:
    """A folder with a manifest of the app `e2e` in which each function is one of `functions`' files."""
    lines = [f'schema = 1\napp = "{APP}"\n']
    for name, file in functions.items():
        shutil.copy(file, folder / file.name)
        lines.append(f'[functions.{name}]\nfile = "{file.name}"\n{settings}\n')
    (folder / "faas.toml").write_text("\n".join(lines))
    return folder


async def put(node: RunningNode, source: Path, *, name: str = "", app: str = "", **settings: object) -> None:
    """What `faas push` does, without a process of its own: for tests whose subject is something else."""
    async with Client(node.url, node.token) as client:
        for found in collect(source, Wishes(name, app, settings), {}):
            archive = pack(found.files)
            await client.put_bundle(archive.digest, archive.data)
            requires = Requires(requirements=found.requirements) if found.requirements else None
            item = FunctionPush(name=found.name, code=archive.digest, settings=found.settings, requires=requires)
            told = [event async for event in client.push(found.app, Push(functions=[item]))]
            assert told[-1].phase == "done", told[-1]


async def log_lines(node: RunningNode, name: str, **query: Any) -> list[LogLine]:
    """Stored lines of a function's log, as the API gives them: `call=`, `grep=`, `limit=`."""
    headers, query = {"Authorization": f"Bearer {node.token}"}, {"limit": 10_000} | query
    async with node.http.get(f"/v1/functions/{name}/logs", params=query, headers=headers) as answer:
        assert answer.ok, await answer.text()
        return [msgspec.json.decode(line, type=LogLine) for line in (await answer.read()).splitlines() if line.strip()]


@pytest.fixture(scope="session")
async def corpus(docker_node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> RunningNode:
    """The shared node, on which `echo.e2e`, `about.e2e`, `event.e2e` and so on answer."""
    folder = write_folder(tmp_path_factory.mktemp("corpus"), _CORPUS)
    await put(docker_node, folder)
    return docker_node
