"""What only containers can get wrong: the engine goes away, settings that are not applied, mounts that do not show."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from faas.drivers import mounts
from faas.drivers.docker import DockerDriver
from faas.drivers.engine import Engine
from faas.errors import NotFound, Unavailable
from faas.ids import new_id
from tests.conformance.drivers.bench import Bench, Guest
from tests.docker.engine_proxy import EngineProxy
from tests.leftovers import assert_nothing_left
from tests.support import require

pytestmark = pytest.mark.docker
MIB = 1 << 20


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    require("docker", "images")
    client = docker.APIClient(version="auto")
    yield client
    client.close()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="faas-dkr-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def bench(client: Any, data_dir: Path) -> AsyncIterator[Bench]:
    node = new_id("n")
    async with DockerDriver(node, data_dir) as driver:
        yield Bench(driver, data_dir, node)
    await assert_nothing_left(data_dir, labels={"faas.node": node})


@pytest.fixture
def program(client: Any) -> Iterator[Callable[[str], str]]:
    """Makes an image whose PID 1 is a Python program; gives the prefix under which it is runtime python3.11."""
    made: list[str] = []

    def make(source: str) -> str:
        prefix = f"faas-test-{new_id('t')[-8:]}-"
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "main.py").write_text(source)
            lines = ("FROM faas-runtime-python3.11:latest", "COPY main.py /", 'ENTRYPOINT ["python3", "/main.py"]')
            Path(folder, "Dockerfile").write_text("\n".join(lines))
            tag = f"{prefix}python3.11:latest"
            story = list(client.build(path=folder, tag=tag, rm=True, network_mode="none", decode=True))
        assert not [line for line in story if "error" in line], story
        made.append(tag)
        return prefix

    yield make
    for tag in made:
        client.remove_image(tag, force=True)


def inspected(client: Any, guest: Guest) -> dict[str, Any]:
    return dict(client.inspect_container(f"faas-{guest.id}"))


async def test_the_engine_was_asked_for_every_limit(bench: Bench, client: Any) -> None:
    async with bench.guest(memory=200 * MIB, cpu=0.5, pids=77, tmpfs=8 * MIB) as guest:
        seen = inspected(client, guest)
        host = seen["HostConfig"]
        assert host["Memory"] == host["MemorySwap"] == 200 * MIB
        assert host["CpuQuota"] / host["CpuPeriod"] == 0.5
        assert host["PidsLimit"] == 77
        assert "size=8388608" in host["Tmpfs"]["/tmp"]
        assert host["RestartPolicy"]["Name"] in ("", "no")
        assert host["LogConfig"]["Type"] == "none"
        assert host["Privileged"] is False
        assert seen["Config"]["Labels"].items() >= {"faas": "1", "faas.node": bench.node}.items()
        ours = [entry for entry in seen["Config"]["Env"] if entry.startswith("FAAS_")]
        assert sorted(ours) == ["FAAS_DIR=/faas/instance", f"FAAS_INSTANCE={guest.id}"]


async def test_an_instance_has_the_network_it_was_given_and_no_power(bench: Bench, client: Any) -> None:
    async with bench.guest(network="none") as closed, bench.guest(network="egress") as connected:
        assert interfaces(client, closed) == {"lo"}
        assert interfaces(client, connected) == {"lo", "eth0"}
        pid = inspected(client, connected)["State"]["Pid"]
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        assert status["Uid"] == [str(bench.driver.uid)] * 4
        assert {int(status[name][0], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == ["1"]
        assert status["Seccomp"] == ["2"]
        root = next(line for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines() if " / / " in line)
        assert root.split(" ")[5].split(",")[0] == "ro"


def interfaces(client: Any, guest: Guest) -> set[str]:
    pid = inspected(client, guest)["State"]["Pid"]
    return {line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]}


async def test_resize_reaches_the_kernel(bench: Bench, client: Any) -> None:
    async with bench.guest() as guest:
        await bench.driver.resize(guest.id, memory=300 * MIB, cpu=1.5)
        host = inspected(client, guest)["HostConfig"]
        assert host["Memory"] == host["MemorySwap"] == 300 * MIB
        assert host["CpuQuota"] == 150_000
    with pytest.raises(NotFound):
        await bench.driver.resize(guest.id, memory=300 * MIB, cpu=1.5)


async def test_a_mount_made_after_the_start_shows_up_inside_and_goes_again(bench: Bench, client: Any) -> None:
    require("root")
    assert bench.driver.capabilities.mounts
    store = bench.data / "store"
    store.mkdir()
    (store / "numpy.py").write_text("fast = True")
    async with bench.guest() as guest:
        target = guest.spec.dir / "deps"
        target.mkdir()
        pid = inspected(client, guest)["State"]["Pid"]
        inside = Path(f"/proc/{pid}/root/faas/instance/deps/numpy.py")
        assert not inside.exists()
        mounts.bind(store, target)
        assert inside.read_text() == "fast = True"
        mounts.detach(target)
        assert not inside.exists()


async def test_dependencies_given_at_start_are_inside(bench: Bench, client: Any) -> None:
    store = bench.data / "store"
    store.mkdir()
    (store / "pack.py").write_text("x = 1")
    async with bench.guest(deps=store) as guest:
        pid = inspected(client, guest)["State"]["Pid"]
        assert Path(f"/proc/{pid}/root/faas/instance/deps/pack.py").read_text() == "x = 1"


async def test_a_container_removed_by_hand_is_an_exit(bench: Bench, client: Any) -> None:
    async with bench.guest() as guest:
        waiting = asyncio.create_task(bench.driver.wait(guest.id))
        await asyncio.sleep(0)
        await asyncio.to_thread(client.remove_container, f"faas-{guest.id}", force=True)
        exit = await asyncio.wait_for(waiting, 15)
        assert exit.signal == 9 or "gone" in exit.detail
        assert not exit.oom


@pytest.mark.parametrize(("source", "code", "signal"), [("raise SystemExit(7)", 7, None), ("exit()", 0, None)])
async def test_exit_codes(
    program: Callable[[str], str], data_dir: Path, source: str, code: int | None, signal: int | None
) -> None:
    exit = await _life_of(program(source), data_dir)
    assert (exit.code, exit.signal, exit.oom) == (code, signal, False)


async def test_out_of_memory_is_told_from_a_kill(program: Callable[[str], str], data_dir: Path, client: Any) -> None:
    hungry = program("hoard = []\nwhile True: hoard.append(bytearray(1 << 20))")
    exit = await _life_of(hungry, data_dir)
    assert (exit.signal, exit.oom) == (9, True)

    async with DockerDriver(new_id("n"), data_dir) as driver:
        bench = Bench(driver, data_dir, "n")
        async with bench.guest() as guest:
            waiting = asyncio.create_task(driver.wait(guest.id))
            await asyncio.to_thread(client.kill, f"faas-{guest.id}")
            exit = await asyncio.wait_for(waiting, 15)
            assert (exit.signal, exit.oom) == (9, False)


async def _life_of(prefix: str, data_dir: Path) -> Any:
    async with DockerDriver(new_id("n"), data_dir, image_prefix=prefix) as driver:
        bench = Bench(driver, data_dir, "n")
        async with bench.listening(bench.spec(memory=64 * MIB)) as guest:
            await driver.start(guest.spec)
            return await asyncio.wait_for(driver.wait(guest.id), 30)


# The docker package leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_instance_that_ends_while_the_engine_is_out_of_reach(
    client: Any, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = new_id("n")
    async with EngineProxy(data_dir / "engine.sock") as proxy:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{proxy.path}")
        async with DockerDriver(node, data_dir) as driver:
            bench = Bench(driver, data_dir, node)
            async with bench.guest() as ends, bench.guest() as stays:
                gone = asyncio.create_task(driver.wait(ends.id))
                here = asyncio.create_task(driver.wait(stays.id))
                await proxy.cut()
                await asyncio.to_thread(client.remove_container, f"faas-{ends.id}", force=True)
                with pytest.raises(Unavailable, match="does not answer") as refused:
                    await driver.start(bench.spec())
                with pytest.raises(Unavailable):
                    await asyncio.wait_for(driver.wait(new_id("i")), 10)
                assert "systemctl start docker" in refused.value.hint
                await proxy.mend()
                assert "gone" in (await asyncio.wait_for(gone, 20)).detail
                assert not here.done()
                await driver.destroy(stays.id)
                assert (await asyncio.wait_for(here, 10)).signal == 9
    gc.collect()


async def test_an_engine_that_takes_calls_and_says_nothing(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("docker")
    async with EngineProxy(data_dir / "engine.sock") as proxy:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{proxy.path}")
        async with Engine(timeout_s=0.5) as engine:
            proxy.mute = True
            with pytest.raises(Unavailable, match="does not answer"):
                await engine.call(lambda client: client.version())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("host", "message"),
    [("unix:///nonexistent/docker.sock", "does not answer"), ("tcp://10.1.2.3:2375", "not a local engine")],
)
async def test_no_engine_says_what_to_do(
    host: str, message: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(Unavailable, match=message) as error:
        async with DockerDriver("n", data_dir):
            raise AssertionError("entered without an engine")
    assert error.value.hint
    gc.collect()


async def test_a_second_node_on_the_engine_sees_the_first_ones_instances(bench: Bench, data_dir: Path) -> None:
    async with bench.guest() as guest, DockerDriver(new_id("n"), data_dir) as other:
        found = {one.id: one.node for one in await other.found()}
        assert found[guest.id] == bench.node
        watching = asyncio.create_task(other.wait(guest.id))
        await asyncio.sleep(0)
        await other.destroy(guest.id)
        await asyncio.wait_for(watching, 10)
        await asyncio.wait_for(bench.driver.wait(guest.id), 10)


async def test_usage_falls_back_to_the_engine(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from faas.drivers import cgroups

    async with bench.guest() as guest:
        direct = await bench.driver.usage(guest.id)
        monkeypatch.setattr(cgroups, "usage", lambda *_: None)
        asked = await bench.driver.usage(guest.id)
        assert direct is not None
        assert asked is not None
        assert abs(direct.memory - asked.memory) < 16 * MIB


async def test_the_data_directory_is_shared_while_the_driver_is_open_only(client: Any, data_dir: Path) -> None:
    require("root")
    async with DockerDriver(new_id("n"), data_dir) as driver:
        assert driver.capabilities.mounts
        assert mounts.mount_of(data_dir, mounts.mounts()).shared
    assert not _mounted(data_dir)


def _mounted(path: Path) -> bool:
    return any(mount.point == path for mount in mounts.mounts())
