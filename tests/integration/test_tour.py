"""The tour in README.md is true: its commands are run, in order, and what they print is what it says.

A block marked `console` has commands after `$ ` (continued after `> `), each followed by its output, in which `...`
stands for anything. The blocks without a mark are for the reader's own terminal.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from tests.conftest import NodeFactory
from tests.integration.node import RunningNode
from tests.support import ROOT, dies_with_us, wait_until

ADDRESS = "http://127.0.0.1:8080"
STEP_S = 60.0
"""Longest a command of the tour may take."""


class Step(NamedTuple):
    """A command and what the README says it prints."""

    command: str
    output: str


def steps(markdown: str) -> list[Step]:
    """Every command of every `console` block, in order."""
    found: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], ""))
            elif line == ">" or line.startswith("> "):
                found[-1] = found[-1]._replace(command=f"{found[-1].command}\n{line[2:]}")
            else:
                found[-1] = found[-1]._replace(output=f"{found[-1].output}{line}\n")
    return found


def pattern(output: str) -> str:
    """A regular expression for an output in which `...` stands for anything, a line of its own for whole lines."""
    return re.escape(output.strip()).replace(re.escape("..."), ".*")


async def run(command: str, folder: Path, environ: dict[str, str]) -> str:
    """What a command of the tour prints, errors included. Bounded."""
    shell = await asyncio.create_subprocess_exec(
        *dies_with_us(["bash", "-c", command]),
        cwd=folder,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(shell.communicate(), STEP_S)
    except TimeoutError:
        shell.kill()
        await shell.wait()
        raise AssertionError(f"still running after {STEP_S:g} s: {command}") from None
    return out.decode()


async def test_the_tour_of_the_readme(node_factory: NodeFactory, tmp_path: Path) -> None:
    tour = steps((ROOT / "README.md").read_text())
    assert len(tour) > 20, "the tour was not found in README.md"
    node = await node_factory()
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "FAAS_URL": node.url,
        "FAAS_TOKEN": node.token,
        # curl draws a progress meter when its output is not a terminal.
        "CURL_HOME": str(tmp_path),
    }
    (tmp_path / ".curlrc").write_text("silent\n")
    folder = tmp_path / "empty"
    folder.mkdir()
    for command, output in tour:
        if command == "faas show count":
            await wait_until(lambda: _at_zero(node, "count"), 15, "count is at zero")
        printed = await run(command.replace(ADDRESS, node.url), folder, environ)
        shown = printed.replace(node.url, ADDRESS).replace("\r", "").strip()
        assert re.fullmatch(pattern(output), shown, re.DOTALL), (
            f"$ {command}\n{shown}\n--- README.md says ---\n{output}"
        )


async def _at_zero(node: RunningNode, name: str) -> bool:
    """What the reader's own pace gives: nothing of the function runs."""
    return bool((await node.api("GET", f"/v1/functions/{name}"))["instances"] == 0)
