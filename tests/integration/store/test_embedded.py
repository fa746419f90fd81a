"""The embedded server's life: it keeps what it acknowledged, comes back, and never outlives its node."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from faas.errors import Conflict, Unavailable
from faas.store import server
from faas.store.connection import connect
from faas.store.durability import check_durability
from faas.store.embedded import EmbeddedRedis
from faas.store.registry import Registry, Snapshot
from tests.support import ROOT

WAIT_S = 20.0

NODE = """
import asyncio, sys
from pathlib import Path
from faas.store.connection import connect
from faas.store.embedded import EmbeddedRedis

async def main():
    async with EmbeddedRedis(Path(sys.argv[1]), Path(sys.argv[2])) as redis:
        client = await connect(redis.url)
        n = 0
        while True:
            n += 1
            await client.set("acknowledged", n)
            print(redis.pid, n, flush=True)

asyncio.run(main())
"""


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def _until_gone(pid: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while _running(pid):
            await asyncio.sleep(0.01)


async def _get(url: str, key: str) -> bytes | str | None:
    client = await connect(url)
    try:
        return await client.get(key)
    finally:
        await client.aclose()


async def test_it_keeps_data_over_a_restart_and_leaves_nothing(tmp_path: Path, server_binary: Path) -> None:
    for expected in (None, b"1"):
        async with EmbeddedRedis(tmp_path, server_binary) as redis:
            client = await connect(redis.url)
            assert await client.get("x") == expected
            await client.set("x", 1)
            durability = await check_durability(client)
            assert durability.ok
            assert "always" in durability.finding
            await client.aclose()
            pid = redis.pid
            assert pid is not None
            assert _running(pid)
            assert stat.S_IMODE((tmp_path / "redis").stat().st_mode) == 0o700
        assert not _running(pid)
        assert redis.pid is None
        assert not (tmp_path / "redis" / "redis.sock").exists()
        assert not (tmp_path / "redis" / "server.json").exists()


async def test_killed_alone_it_comes_back_at_the_same_url_with_its_data(tmp_path: Path, server_binary: Path) -> None:
    async with EmbeddedRedis(tmp_path, server_binary) as redis:
        for round_ in range(2):
            client = await connect(redis.url)
            await client.set("round", round_)
            await client.aclose()
            killed = redis.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            async with asyncio.timeout(WAIT_S):
                while True:
                    try:
                        assert await _get(redis.url, "round") == b"%d" % round_
                        break
                    except Unavailable:
                        await asyncio.sleep(0.01)
            assert redis.pid != killed


async def test_a_killed_node_takes_it_along_and_loses_nothing(tmp_path: Path, server_binary: Path) -> None:
    argv = [sys.executable, "-c", NODE, str(tmp_path), str(server_binary)]
    node = await asyncio.create_subprocess_exec(
        *argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert node.stdout is not None
    acknowledged = 0
    pid = 0
    async with asyncio.timeout(WAIT_S):
        while acknowledged < 20:
            pid, acknowledged = map(int, (await node.stdout.readline()).split())
    node.kill()
    rest = await node.stdout.read()
    for line in rest.splitlines(keepends=True):
        if line.endswith(b"\n"):
            acknowledged = int(line.split()[1])
    await node.wait()
    await _until_gone(pid)
    async with EmbeddedRedis(tmp_path, server_binary) as redis:
        kept = await _get(redis.url, "acknowledged")
        assert int(kept or 0) in (acknowledged, acknowledged + 1)


async def test_a_server_that_outlived_its_node_is_ended_first(tmp_path: Path, server_binary: Path) -> None:
    async with EmbeddedRedis(tmp_path, server_binary):
        pass
    folder = tmp_path / "redis"
    left = await server.spawn(server_binary, folder)
    async with asyncio.timeout(WAIT_S):
        while not (folder / "redis.sock").exists():
            await asyncio.sleep(0.01)
    (folder / "server.json").write_text(f'{{"pid": {left.pid}, "started": "{server.start_time(left.pid)}"}}')
    async with EmbeddedRedis(tmp_path, server_binary) as redis:
        assert left.returncode is not None or not _running(left.pid)
        assert redis.pid != left.pid
        assert await _get(redis.url, "x") is None
    await left.wait()


@pytest.mark.parametrize("state", ["", "{}", "[1]", '{"pid": 1, "started": "1"}', '{"pid": 999999999, "started": "1"}'])
async def test_a_stale_or_broken_state_file_harms_nobody(tmp_path: Path, state: str) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "server.json").write_text(state)
    async with EmbeddedRedis(tmp_path) as redis:
        assert await _get(redis.url, "x") is None


async def test_a_long_data_directory(tmp_path: Path, server_binary: Path) -> None:
    deep = tmp_path / ("d" * 100) / "sp ace % ü"
    async with EmbeddedRedis(deep, server_binary) as redis:
        assert await _get(redis.url, "x") is None
        link = Path(redis.url.removeprefix("unix://")).parent
        assert link.is_symlink()
        assert stat.S_IMODE(link.parent.stat().st_mode) == 0o700
    assert not link.parent.exists()


async def test_two_nodes_on_one_directory(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as redis:
        with pytest.raises(Conflict, match="another node uses"):
            await EmbeddedRedis(tmp_path).__aenter__()
        assert await _get(redis.url, "x") is None


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "redis" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("garbage\n")
    with pytest.raises(Unavailable, match=r"(?s)ended with code 1: .*[Mm]anifest"):
        await EmbeddedRedis(tmp_path).__aenter__()
    with pytest.raises(Unavailable, match="cannot start"):
        await EmbeddedRedis(tmp_path, tmp_path / "nothing", load_timeout_s=5).__aenter__()


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot use"):
        await EmbeddedRedis(tmp_path / "file").__aenter__()


async def test_cancelling_the_start_leaves_no_server(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path)
    task = asyncio.create_task(redis.__aenter__())
    state = tmp_path / "redis" / "server.json"
    async with asyncio.timeout(WAIT_S):
        while not state.exists() and not task.done():
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=WAIT_S)
    if task.cancelled():
        assert redis.pid is None
    else:
        await redis.__aexit__(None, None, None)


async def test_only_the_main_thread_may_start_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(lambda: asyncio.run(EmbeddedRedis(tmp_path).__aenter__()))


async def test_a_watch_goes_on_after_the_server_was_killed(tmp_path: Path, server_binary: Path) -> None:
    async with EmbeddedRedis(tmp_path, server_binary) as redis:
        client = await connect(redis.url)
        registry = Registry(client, lambda: connect(redis.url, blocking=True))
        start = await registry.load()
        seen: asyncio.Queue[Snapshot] = asyncio.Queue()

        async def follow() -> None:
            async for snapshot in registry.watch(start):
                seen.put_nowait(snapshot)

        task = asyncio.create_task(follow())
        await registry.apply(put_secrets={"a/K": b"1"})
        assert (await asyncio.wait_for(seen.get(), WAIT_S)).secrets == {"a/K": b"1"}
        assert redis.pid is not None
        os.kill(redis.pid, signal.SIGKILL)
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    await registry.apply(put_secrets={"a/L": b"2"})
                    break
                except Unavailable:
                    await asyncio.sleep(0.01)
        assert (await asyncio.wait_for(seen.get(), WAIT_S)).secrets == {"a/K": b"1", "a/L": b"2"}
        task.cancel()
        await asyncio.wait([task])
        await client.aclose()
