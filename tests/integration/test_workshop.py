"""Workshops of the real drivers: work in one room, bounded, and with nothing else within reach."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from faas.drivers.docker import DockerDriver
from faas.drivers.process import ProcessDriver
from faas.drivers.workshop import TIMED_OUT, Workshop
from faas.errors import NotFound
from tests.support import TEST_RUNTIME, require, wait_until

SECRET = "a-secret-of-the-node"
NODE = "n-workshop-test"


class Run(Protocol):
    """`await run("print(1)")`: exit code and output of a Python program in the room."""

    async def __call__(self, program: str, *, network: bool = False, timeout_s: float = 30.0) -> tuple[int, str]: ...


@pytest.fixture(params=["docker", "process"])
async def driver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Workshop]:
    (tmp_path / "admin-token").write_text(SECRET)
    (tmp_path / "admin-token").chmod(0o600)
    if request.param == "docker":
        require("docker", "images", "root")
        async with DockerDriver(NODE, tmp_path) as docker:
            yield docker
    else:
        require("bwrap", "root")
        async with ProcessDriver(NODE, tmp_path, sandboxed=True) as process:
            yield process


@pytest.fixture
def room(tmp_path: Path) -> Path:
    path = tmp_path / "room"
    path.mkdir()
    return path


@pytest.fixture
def run(driver: Workshop, room: Path) -> Run:
    async def run(program: str, *, network: bool = False, timeout_s: float = 30.0) -> tuple[int, str]:
        argv = ["{python}", "-I", "-c", program]
        code = await driver.work(
            TEST_RUNTIME,
            argv,
            room,
            env={"GIVEN": "yes"},
            network=network,
            shows=(),
            output="said",
            timeout_s=timeout_s,
        )
        return code, (room / "said").read_text() if (room / "said").is_file() else ""

    return run


async def test_it_works_in_its_room(run: Run, room: Path) -> None:
    (room / "before").mkdir()
    program = "import os, sys; open('before/made', 'w').write(os.environ['GIVEN']); print(os.getcwd()); sys.exit(7)"
    assert await run(program) == (7, "/faas/instance\n")
    assert (room / "before" / "made").read_text() == "yes"


async def test_nothing_else_is_within_reach(run: Run, tmp_path: Path) -> None:
    program = f"""
import os, socket
print([name for name in os.environ if name.startswith(("FAAS_", "SSL_", "HOME_"))])
for path in ({str(tmp_path / "admin-token")!r}, "/etc/shadow", "/root/.bashrc"):
    try:
        print(open(path).read())
    except OSError as error:
        print("refused")
for path in ("/usr/mine", "/faas/mine", "/etc/mine"):
    try:
        open(path, "w")
        print("written")
    except OSError:
        print("refused")
print(os.getuid() != 0, [name for _, name in socket.if_nameindex()])
"""
    code, said = await run(program)
    assert code == 0, said
    assert said.splitlines() == ["[]", *["refused"] * 6, "True ['lo']"]
    assert SECRET not in said


async def test_too_long_is_ended_and_told(run: Run, room: Path) -> None:
    code, _ = await run("import time; time.sleep(600)", timeout_s=1)
    assert code == TIMED_OUT
    assert not running(room)


async def test_giving_up_ends_it(run: Run, room: Path) -> None:
    task = asyncio.create_task(run("open('begun', 'w'); import time; time.sleep(600)"))
    await wait_until(lambda: (room / "begun").exists(), 20, "it runs")
    task.cancel()
    await asyncio.wait({task})
    await wait_until(lambda: not running(room), 10, "it is gone")


async def test_a_killed_program_is_no_success(run: Run) -> None:
    code, _ = await run(
        "import os, signal; os.kill(os.getppid(), signal.SIGKILL); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert code != 0


async def test_an_unknown_runtime(driver: Workshop, room: Path) -> None:
    with pytest.raises(NotFound, match="python2"):
        await driver.work("python2", ["x"], room, env={}, network=False, shows=(), output="said", timeout_s=5)


def running(room: Path) -> str:
    """Containers of this test's node, and processes that have the room."""
    listed = ["docker", "ps", "-aq", "--filter", f"label=faas.node={NODE}"]
    found = subprocess.run(["pgrep", "-f", str(room)], capture_output=True, text=True, check=False).stdout
    return subprocess.run(listed, capture_output=True, text=True, check=False).stdout + found
