"""What only processes can get wrong: strangers' pids, leftovers of an earlier life, what the sandbox hides."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faas.drivers import procfs
from faas.drivers.process import ProcessDriver
from faas.drivers.records import Records
from faas.ids import new_id
from tests.conformance.drivers.bench import Bench, Guest
from tests.support import require, wait_until

SECONDS = "60"


@pytest.fixture(params=["plain", "bwrap"])
def sandboxed(request: pytest.FixtureRequest) -> bool:
    if request.param == "bwrap":
        require("bwrap")
    return bool(request.param == "bwrap")


def inner_pid(guest: Guest) -> int:
    """The supervisor as the host sees it."""
    found = procfs.with_variable("FAAS_INSTANCE").get(guest.id, [])
    supervisors = [one for one in found if "start.py" in command(one.pid) and "bwrap" not in command(one.pid)]
    return min(supervisors, key=lambda one: one.start).pid


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


async def test_a_later_life_finds_and_ends_what_a_killed_node_left(data_dir: Path) -> None:
    node, instance = new_id("n"), new_id("i")
    left = subprocess.Popen(
        [sys.executable, "-c", f"import time; time.sleep({SECONDS})"], env={"FAAS_INSTANCE": instance}
    )
    try:
        records = Records(data_dir / "processes")
        records.open()
        seen = procfs.stat(left.pid)
        assert seen is not None
        records.write(instance, node, left.pid, seen.start)
        async with ProcessDriver(new_id("n"), data_dir, sandboxed=False) as driver:
            found = [one for one in await driver.found() if one.id == instance]
            assert [one.node for one in found] == [node]
            ending = asyncio.create_task(driver.destroy(instance))
            assert await asyncio.to_thread(left.wait, 10) == -9
            await ending
            assert await driver.found() == []
    finally:
        left.kill()
        left.wait()


async def test_a_pid_that_was_given_to_another_process_is_left_alone(data_dir: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({SECONDS})"], env={})
    try:
        records = Records(data_dir / "processes")
        records.open()
        records.write("i-old", "n-old", stranger.pid, 12345)
        async with ProcessDriver(new_id("n"), data_dir, sandboxed=False) as driver:
            await driver.destroy("i-old")
            assert await driver.found() == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_destroy_reaches_processes_that_left_the_family(data_dir: Path) -> None:
    """An orphan in a session of its own, as a daemon is; in a sandbox the namespace sees to it."""
    async with ProcessDriver(new_id("n"), data_dir, sandboxed=False) as driver:
        bench = Bench(driver, data_dir, "n")
        async with bench.guest() as guest:
            daemon = subprocess.Popen(
                ["sh", "-c", f"setsid sleep {SECONDS} >/dev/null 2>&1 & echo $!"],
                env={"FAAS_INSTANCE": guest.id, "PATH": os.environ["PATH"]},
                stdout=subprocess.PIPE,
                text=True,
            )
            pid = int(daemon.communicate(timeout=10)[0])
            assert procfs.stat(pid) is not None
            await driver.destroy(guest.id)
            await wait_until(lambda: not _alive(pid), 5, "the daemon is gone")


def _alive(pid: int) -> bool:
    seen = procfs.stat(pid)
    return seen is not None and seen.alive


async def test_a_supervisor_that_cannot_start_says_why(data_dir: Path) -> None:
    broken = data_dir / "sources" / "python"
    broken.mkdir(parents=True)
    manifest = Path(__file__).parents[3] / "runtimes" / "python" / "runtime.toml"
    (broken / "runtime.toml").write_text(manifest.read_text())
    (broken / "start.py").write_text("raise SystemExit('the disk is full of eels')")
    async with ProcessDriver(new_id("n"), data_dir, sandboxed=False, runtimes=broken.parent) as driver:
        bench = Bench(driver, data_dir, "n")
        async with bench.listening(bench.spec()) as guest:
            await driver.start(guest.spec)
            exit = await asyncio.wait_for(driver.wait(guest.id), 15)
            assert exit.code == 1
            assert "full of eels" in exit.detail


async def test_dependencies_given_at_start_are_inside(sandboxed: bool, data_dir: Path) -> None:
    deps = data_dir / "store" / "abc"
    deps.mkdir(parents=True)
    (deps / "pack.py").write_text("x = 1")
    async with ProcessDriver(new_id("n"), data_dir, sandboxed=sandboxed) as driver:
        bench = Bench(driver, data_dir, "n")
        spec = bench.spec(deps=deps)
        (spec.dir / "deps").mkdir()  # as the node makes it
        async with bench.listening(spec) as guest:
            inside = await driver.start(spec)
            await guest.connected(driver)
            seen = _root_of(guest) / inside.dir.lstrip("/") / "deps" / "pack.py"
            assert seen.read_text() == "x = 1"


async def test_a_sandbox_shows_neither_home_nor_the_data_directory(data_dir: Path) -> None:
    require("bwrap", "root")
    (data_dir / "admin-token").write_text("secret")
    async with ProcessDriver(new_id("n"), data_dir, sandboxed=True) as driver:
        bench = Bench(driver, data_dir, "n")
        async with bench.guest() as guest:
            root = _root_of(guest)
            names = ("/home", "/var", "/run", "/etc/shadow", "/root/.ssh", str(data_dir))
            assert [name for name in names if (root / name.lstrip("/")).exists()] == []
            status = _status(inner_pid(guest))
            assert status["Uid"].split()[0] == "65532"
            assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0
            assert status["NoNewPrivs"] == "1"
            variables = _environment(inner_pid(guest)) - {"PWD"}  # bubblewrap's own
            assert variables == {"PATH", "LANG", "FAAS_DIR", "FAAS_INSTANCE"}


async def test_no_network_means_no_network(data_dir: Path) -> None:
    require("bwrap")
    async with ProcessDriver(new_id("n"), data_dir, sandboxed=True) as driver:
        bench = Bench(driver, data_dir, "n")
        mine = os.readlink("/proc/self/ns/net")
        async with bench.guest(network="none") as closed, bench.guest(network="egress") as open_:
            assert os.readlink(f"/proc/{inner_pid(closed)}/ns/net") != mine
            assert os.readlink(f"/proc/{inner_pid(open_)}/ns/net") == mine


async def test_a_killed_node_takes_its_instances_along(sandboxed: bool, data_dir: Path) -> None:
    """kill -9 of the node: the control connection closes, and the kernel's own signal does the rest."""
    script = Path(__file__).parent / "victim.py"
    argv = [sys.executable, str(script), str(data_dir), "bwrap" if sandboxed else "plain"]
    node = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    try:
        assert node.stdout is not None
        instance = (await asyncio.to_thread(node.stdout.readline)).strip()
        assert instance.startswith("i-")
        node.kill()
        node.wait()
        await wait_until(
            lambda: instance not in procfs.with_variable("FAAS_INSTANCE"), 10, "the instance ends with its node"
        )
    finally:
        node.kill()
        node.wait()
        if node.stdout is not None:
            node.stdout.close()


def _root_of(guest: Guest) -> Path:
    return Path(f"/proc/{inner_pid(guest)}/root")


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _environment(pid: int) -> set[str]:
    """Names of the variables it was started with."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return {entry.partition(b"=")[0].decode() for entry in entries if entry}
