"""Bundles and logs: large bodies in, endless streams out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from faas.api import http
from faas.archive import File, pack
from faas.model import FunctionPush, LogLine, Push, Settings, to_builtins
from faas.names import FunctionName
from tests.support import wait_until
from tests.unit.api.support import Api
from tests.unit.control.world import ADMIN, World

HELLO = FunctionName("default", "hello")
HEADERS = {"Authorization": f"Bearer {ADMIN}"}


async def test_bundle_comes_and_is_found(api: Api, world: World) -> None:
    archive = pack({"main.py": File(b"x = 1", False)})
    path = f"/v1/bundles/{archive.digest}"
    assert (await api.call("HEAD", path))[0] == 404
    for _ in range(2):
        assert await api.call("PUT", path, data=archive.data) == (204, None)
    assert (await api.call("HEAD", path))[0] == 204
    assert (world.services.code._bundles.path(archive.digest) / "main.py").read_text() == "x = 1"
    assert await world.services.code._blobs.get(archive.digest) == archive.data


async def test_bundle_is_what_its_name_says(api: Api, world: World) -> None:
    archive = pack({"main.py": File(b"x = 1", False)})
    wrong = f"/v1/bundles/{'0' * 64}"
    for data in (archive.data, b"", b"not an archive"):
        status, problem = await api.call("PUT", wrong, data=data)
        assert status == 422
        assert problem["fault"] == "caller"
    assert (await api.call("HEAD", wrong))[0] == 404
    assert not await world.services.code._blobs.exists("0" * 64)


async def test_bundle_too_large_is_refused_early(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faas.api.deploy.UPLOAD_MAX", 1000)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0)

    response = await api.client.put(f"/v1/bundles/{'0' * 64}", data=endless(), headers=HEADERS)
    assert response.status == 413
    assert "larger than 1000B" in (await response.json())["detail"]


async def test_bodies_are_bounded_in_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_S", 0.05)
    stop = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await stop.wait()

    response = await api.client.put("/v1/functions/hello/scale", data=stalled(), headers=HEADERS)
    assert response.status == 408
    stop.set()


def line(text: str, **more: object) -> LogLine:
    return LogLine(time_ms=1_700_000_000_000, text=text, **more)  # type: ignore[arg-type]


async def test_stored_logs(api: Api, world: World) -> None:
    await world.push("hello")
    for number in range(5):
        world.services.logs.write(HELLO, line(f"line {number}", call=f"c{number % 2}"))
    world.services.logs.write(HELLO, line("bad", level="error"))
    _, lines = await api.call("GET", "/v1/functions/hello/logs?limit=3")
    assert [found["text"] for found in lines] == ["line 3", "line 4", "bad"]
    _, lines = await api.call("GET", "/v1/functions/hello/logs?call=c1&grep=3")
    assert [found["text"] for found in lines] == ["line 3"]
    _, lines = await api.call("GET", "/v1/functions/hello/logs?level=error")
    assert [found["text"] for found in lines] == ["bad"]


@pytest.mark.parametrize(
    ("query", "status"), [("level=loud", 422), ("limit=x", 422), ("limit=10001", 422), ("since_ms=-1", 422)]
)
async def test_bad_log_queries(api: Api, world: World, query: str, status: int) -> None:
    await world.push("hello")
    for follow in ("", "&follow=1"):
        assert (await api.call("GET", f"/v1/functions/hello/logs?{query}{follow}"))[0] == status
    assert (await api.call("GET", "/v1/functions/none/logs"))[0] == 404


async def test_followed_logs_live_and_keep_alive(api: Api, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE_S", 0.02)
    await world.push("hello")
    world.services.logs.write(HELLO, line("before"))
    async with api.client.get("/v1/functions/hello/logs?follow=1", headers=HEADERS) as response:
        assert json.loads(await response.content.readline())["text"] == "before"
        assert await asyncio.wait_for(response.content.readline(), 5) == b"\n"
        world.services.logs.write(HELLO, line("after"))
        while (found := await asyncio.wait_for(response.content.readline(), 5)) == b"\n":
            pass
        assert json.loads(found)["text"] == "after"
        assert len(world.services.logs._followers[HELLO]) == 1
    await wait_until(lambda: not world.services.logs._followers.get(HELLO), 5, "the follower is gone")


async def test_streams_end_when_the_node_stops(api: Api, world: World) -> None:
    await world.push("hello")
    async with api.client.get("/v1/functions/hello/logs?follow=1", headers=HEADERS) as response:
        assert response.status == 200
        reading = asyncio.create_task(response.read())
        app = api.client.app
        assert app is not None
        await app.shutdown()
        assert await asyncio.wait_for(reading, 5) == b""


async def test_a_pusher_that_leaves_cancels_its_push(api: Api, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE_S", 0.02)
    world.runner.gates["hello"] = asyncio.Event()
    sha = await world.bundle("x")
    push = Push(functions=[FunctionPush(name="hello", code=sha, settings=Settings())])
    async with api.client.post("/v1/apps/default/push", json=to_builtins(push), headers=HEADERS) as response:
        assert json.loads(await response.content.readline())["phase"] == "stored"
        await wait_until(lambda: bool(world.runner.begun), 5, "the start is under way")
    await wait_until(lambda: world.runner.cancelled == ["hello@1"], 5, "the start was cancelled")
    assert world.live("hello") is None
