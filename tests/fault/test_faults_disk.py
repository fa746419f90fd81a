"""The disk of the data directory is full: what writes fails clearly, what is warm runs on, and room heals it all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.conftest import NodeMaker
from tests.fault.faults import calling, handler, is_at_zero, is_ready, problems, serves
from tests.fault.hostile import DEFECT
from tests.integration.conftest import log_lines, put
from tests.integration.node import RunningNode
from tests.support import ROOT, require, wait_until

SIZE = 48 * 1024 * 1024
BACK_S = 12.0
"""Seconds after there is room in which all works again: the embedded Redis is started anew after at most 5."""
TALKS = "def handler(event):\n    print(event['say'], flush=True)\n    return 'fine'\n"

FULL = "pushes, cold starts and logs may fail; warm calls go on. Free some space"
"""What the node says once when its disk is full."""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A directory on a small file system of its own."""
    require("root", "bwrap")
    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", point], check=True, timeout=10)
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True, timeout=10)


async def test_a_full_disk_costs_pushes_and_logs_and_no_warm_call(
    small: Path, make_node: NodeMaker, tmp_path: Path
) -> None:
    (small / "data.log").symlink_to(tmp_path / "node.log")  # to be read, what the node says must not be lost
    node = await make_node("--driver", "process", "--stem-cells", "0", data_dir=small / "data")
    await put(node, handler(tmp_path, "talks", TALKS), min=1, max=1)
    await put(node, handler(tmp_path, "cold"), idle="1s")
    await wait_until(lambda: is_at_zero(node, "cold"), 10, "cold is at zero")
    assert (await node.call("talks", json={"say": "before"})).status == 200
    await wait_until(lambda: _stored(node, "before"), 5, "the line is stored")

    async with calling(node, "talks", {"say": "meanwhile"}) as warm:
        filler = small / "filler"
        _fill(filler)
        await wait_until(lambda: _finds_disk(node), 5, "/readyz says that the disk is full")
        assert "full" in (await problems(node))["disk"]
        push = await node.cli("push", str(handler(tmp_path, "more", f"TEXT = '''{os.urandom(99_000).hex()}'''\n")))
        assert push.code == 3, push
        assert "Traceback" not in push.err
        assert "No space left" in push.err or "Redis" in push.err, push
        cold = await node.call("cold", json={})
        assert cold.status in (200, 503), cold
        if cold.status == 503:
            assert "No space left on device" in cold.json()["detail"]
            assert cold.json()["fault"] == "platform"
        seen = len(warm.answers)
        await wait_until(lambda: len(warm.answers) > seen + 20, 10, "warm calls go on")
        await wait_until(lambda: "function logs cannot be stored" in node.log(), 10, "lost lines are in the log")
        await wait_until(lambda: FULL in node.log(), 10, "the log says so")

        filler.unlink()
        await wait_until(lambda: is_ready(node), BACK_S, "ready again")
        await wait_until(lambda: serves(node, "cold"), BACK_S, "cold starts work again")
        await put(node, handler(tmp_path, "later"))
        await wait_until(lambda: _stored(node, "meanwhile"), 5, "lines are stored again")
        await wait_until(lambda: "the disk has room again" in node.log(), 10, "so does the end of it")
    assert warm.statuses == {200}
    told = node.log()
    assert "function logs are stored again" in told
    assert DEFECT not in told
    assert any("dropped" in line.text or "lost" in line.text for line in await log_lines(node, "talks"))
    # What was known before is known after a restart too.
    await node.stop()
    await node.start()
    for name in ("cold", "later"):
        assert (await node.call(name, json={})).status == 200


def test_a_log_that_cannot_be_written_breaks_nothing_that_logs() -> None:
    code = (
        "import structlog\nfrom faas.telemetry.log import configure\nconfigure('json', 'info')\n"
        "for _ in range(100): structlog.get_logger().error('no room', text='x' * 1000)\nprint('alive')"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, timeout=30, cwd=ROOT)
    assert done.stdout == b"alive\n"


def _fill(path: Path) -> None:
    """Until nothing fits, not even one byte."""
    with path.open("wb", buffering=0) as file:
        for size in (1024 * 1024, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


async def _finds_disk(node: RunningNode) -> bool:
    return "disk" in await problems(node)


async def _stored(node: RunningNode, word: str) -> bool:
    folder = node.data_dir / "logs" / "default" / "talks"
    return any(word in path.read_text() for path in folder.glob("*.ndjson"))
