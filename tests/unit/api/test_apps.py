"""Apps, pause and resume, versions and their differences, as a client sees them."""

from __future__ import annotations

from typing import Any

import pytest

from faas.archive import File, pack
from faas.control.ports import PoolView
from faas.model import FunctionPush, Push, Settings
from faas.names import FunctionName
from tests.unit.api.support import Api
from tests.unit.control.world import World


async def test_apps(api: Api, world: World) -> None:
    for code in "12":
        await world.push("a", "b", app="shop", code=code, min=1)
    await world.services.secrets.set("till", "KEY", "v")
    world.runner.views[FunctionName("shop", "a")] = [PoolView(version=1, states={"ready": 2}, in_flight=1)]
    status, listed = await api.call("GET", "/v1/apps")
    assert status == 200
    keys = ("name", "functions", "paused", "secrets", "instances", "in_flight")
    assert [tuple(app[key] for key in keys) for app in listed["apps"]] == [
        ("shop", 2, 0, 0, 2, 1),
        ("till", 0, 0, 1, 0, 0),
    ]
    status, shown = await api.call("GET", "/v1/apps/shop")
    assert (status, [f["name"] for f in shown["functions"]]) == (200, ["a.shop", "b.shop"])
    status, rolled = await api.call("POST", "/v1/apps/shop/rollback")
    assert (status, rolled["moved"]["b.shop"]) == (200, {"from": 2, "to": 1})
    assert (await api.call("DELETE", "/v1/apps/shop")) == (204, None)
    assert (await api.call("GET", "/v1/apps/shop"))[0] == 404
    assert (await api.call("GET", "/v1/functions"))[1] == {"functions": []}


async def test_scale(api: Api, world: World) -> None:
    await world.push("a", "b", app="shop", min=1, max=4)

    async def scale(method: str, body: Any = None) -> tuple[int, Any]:
        status, reply = await api.call(method, "/v1/apps/shop/scale", body=body)
        return status, [(f["min"], f["max"]) for f in reply["functions"]] if status == 200 else reply["detail"]

    assert await scale("PUT", {"by": 2}) == (200, [(2, 8), (2, 8)])
    assert await scale("PUT", {"max": 5}) == (200, [(2, 5), (2, 5)])
    assert await scale("DELETE") == (200, [(1, 4), (1, 4)])
    for body, words in (
        ({}, '"min", "max" or "by"'),
        ({"by": 2, "min": 1}, "goes without"),
        ({"by": 0}, "by = 0"),
        ({"min": 9}, "min = 9 is more than max = 4"),
    ):
        status, detail = await scale("PUT", body)
        assert (status, words in detail) == (422, True), body


async def test_pause_and_resume(api: Api, world: World) -> None:
    await world.push("a", "b", app="shop")
    status, shown = await api.call("POST", "/v1/functions/a.shop/pause", body={"reason": "leaks"})
    assert (status, shown["paused"], shown["state"]) == (200, "leaks", "paused")
    status, shown = await api.call("POST", "/v1/apps/shop/pause", body={})
    assert [f["paused"] for f in shown["functions"]] == ["leaks", "paused by admin"]
    assert shown["app"]["paused"] == 2
    assert (await api.call("POST", "/v1/functions/a.shop/resume"))[1]["paused"] == ""
    assert (await api.call("POST", "/v1/apps/shop/resume"))[1]["app"]["paused"] == 0
    assert (await api.call("POST", "/v1/functions/a.shop/pause", body={"reason": "a\nb"}))[0] == 422
    assert (await api.call("POST", "/v1/functions/none/pause", body={}))[0] == 404
    assert (await api.call("POST", "/v1/apps/none/pause", body={}))[0] == 404


async def push_files(world: World, files: dict[str, str], **settings: Any) -> None:
    archive = pack({name: File(text.encode()) for name, text in files.items()})
    await world.services.code.store(archive.digest, archive.data)
    item = FunctionPush(name="hello", code=archive.digest, settings=Settings(**settings))
    events = [event async for event in world.services.pushes.run("default", Push(functions=[item]), "me")]
    assert events[-1].phase == "done"


async def test_versions_say_what_changed(api: Api, world: World) -> None:
    await push_files(world, {"main.py": "1\n"})
    await push_files(world, {"main.py": "1\n"}, timeout_s=5.0)
    await push_files(world, {"main.py": "2\n"}, timeout_s=5.0)
    _, listed = await api.call("GET", "/v1/functions/hello/versions")
    assert [version["changes"] for version in listed["versions"]] == [
        {"code": True, "dependencies": False, "settings": []},
        {"code": False, "dependencies": False, "settings": [{"key": "timeout", "old": None, "new": "5s"}]},
        None,
    ]


async def test_diff(api: Api, world: World) -> None:
    await push_files(world, {"main.py": "a = 1\n", "old.py": "x\n"})
    await push_files(world, {"main.py": "a = 2\n"}, memory=1 << 26)
    status, shown = await api.call("GET", "/v1/functions/hello/diff?from=1&to=2")
    assert status == 200
    assert (shown["from"], shown["to"], shown["dependencies"], shown["more_files"]) == (1, 2, False, 0)
    assert shown["settings"] == [{"key": "memory", "old": None, "new": "64MiB"}]
    assert [(f["path"], f["change"]) for f in shown["files"]] == [("main.py", "changed"), ("old.py", "removed")]
    assert "-a = 1\n+a = 2\n" in shown["files"][0]["patch"]
    assert (await api.call("GET", "/v1/functions/hello/diff"))[1] == shown, "live against what was live before"
    _, back = await api.call("GET", "/v1/functions/hello/diff?from=2&to=1")
    assert back["files"][1]["change"] == "added"
    _, same = await api.call("GET", "/v1/functions/hello/diff?from=2&to=2")
    assert (same["files"], same["settings"]) == ([], [])


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [("?from=1&to=9", 404, "no version 9"), ("?from=x", 422, "from"), ("", 409, "no two versions")],
)
async def test_bad_diffs(api: Api, world: World, query: str, status: int, words: str) -> None:
    await world.push("hello")
    answered, problem = await api.call("GET", f"/v1/functions/hello/diff{query}")
    assert (answered, words in problem["detail"]) == (status, True)


async def test_diff_with_code_that_is_gone(api: Api, world: World) -> None:
    for code in "12":
        await world.push("hello", code=code)
    sha = (await api.call("GET", "/v1/functions/hello/versions"))[1]["versions"][1]["code"]
    world.bundles.remove(sha)
    await world.blobs.delete(sha)
    status, problem = await api.call("GET", "/v1/functions/hello/diff")
    assert (status, "not on any node" in problem["detail"]) == (503, True)
