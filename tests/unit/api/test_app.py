"""The guard: errors in one form, guesses limited, health without a token."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from faas.api.app import _is_loopback
from faas.api.schemas import RedisStatus
from faas.control.guesses import BURST
from faas.errors import Unavailable
from faas.model import Function
from faas.names import FunctionName
from tests.support import wait_until
from tests.unit.api.support import Api
from tests.unit.control.world import READER, World


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/function", "/v1/functions/a/b", "/V1/functions", "/v1//functions"])
async def test_unknown_paths(api: Api, path: str) -> None:
    response = await api.send("GET", path)
    assert response.status == 404
    assert response.content_type == "application/problem+json"
    assert (await response.json())["code"] == "not_found"


async def test_close_paths_are_named(api: Api) -> None:
    _, problem = await api.call("GET", "/v1/functons")
    assert "/v1/functions" in problem["hint"]


async def test_wrong_method(api: Api) -> None:
    response = await api.send("PATCH", "/v1/functions/hello")
    assert response.status == 405
    assert response.headers["Allow"] == "DELETE, GET, HEAD"
    assert (await response.json())["code"] == "method_not_allowed"


async def test_our_own_bugs_keep_their_details(api: Api, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("a detail of ours")

    monkeypatch.setattr(world.runner, "totals", broken)
    status, problem = await api.call("GET", "/v1/status")
    assert status == 500
    assert (problem["code"], problem["fault"]) == ("internal", "platform")
    assert problem["call_id"] in problem["hint"]
    assert "detail of ours" not in str(problem)


async def test_too_many_wrong_tokens(api: Api) -> None:
    for number in range(BURST):
        assert (await api.send("GET", "/v1/status", token=f"guess-{number}")).status == 401
    response = await api.send("GET", "/v1/status", token="guess-x")
    assert response.status == 429
    assert int(response.headers["Retry-After"]) >= 1
    assert (await api.send("GET", "/healthz", token=None)).status == 200


async def test_health_follows_the_parts(api: Api, world: World) -> None:
    assert await api.call("GET", "/healthz", token=None) == (200, {"ok": True})
    assert await api.call("GET", "/readyz", token=None) == (200, {"ready": True, "problems": {}})
    world.redis = RedisStatus(url="x", ok=False, durable=False, finding="gone")
    world.driver = "no engine"
    world.runner.draining = True
    status, body = await api.call("GET", "/readyz", token=None)
    assert status == 503
    assert body == {
        "ready": False,
        "problems": {"redis": "gone", "driver": "no engine", "node": "it is stopping or being drained"},
    }


async def test_a_silent_part_is_not_ready(api: Api, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faas.api.system.PROBE_S", 0.02)

    async def silent() -> RedisStatus:
        await asyncio.Event().wait()
        raise AssertionError

    async def refused() -> str:
        raise Unavailable("the engine does not answer")

    world.ask_redis, world.ask_driver = silent, refused
    status, body = await api.call("GET", "/readyz", token=None)
    assert status == 503
    assert body["problems"] == {
        "redis": "Redis did not answer within 0.02 s",
        "driver": "the engine does not answer",
    }
    status, body = await api.call("GET", "/v1/status")
    assert (status, body["redis"]["ok"]) == (200, False)


async def test_status_nodes_runtimes(api: Api, world: World) -> None:
    await world.push("hello")
    status, body = await api.call("GET", "/v1/status", token=READER)
    assert status == 200
    assert (body["functions"], body["instances"], body["version"]) == (1, {"ready": 1}, "0.0.test")
    assert body["node"]["id"] == "n-1"
    assert body["redis"]["durable"] is True
    assert [node["id"] for node in (await api.call("GET", "/v1/nodes"))[1]["nodes"]] == ["n-1"]
    assert (await api.call("GET", "/v1/runtimes"))[1] == {"runtimes": ["exec", "python3.11"]}


async def test_metrics_are_open_on_loopback_only(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    response = await api.send("GET", "/metrics", token=None)
    assert response.status == 200
    assert "faas_test_total 1.0" in await response.text()
    assert response.content_type == "text/plain"
    monkeypatch.setattr("faas.api.app.socket_host", lambda request: "192.0.2.1")
    assert (await api.send("GET", "/metrics", token=None)).status == 401
    assert (await api.send("GET", "/metrics", token=READER)).status == 200


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("", True), ("0.0.0.0", False), ("10.0.0.1", False), ("x", False)],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert _is_loopback(host) == loopback


async def test_redis_away_is_unavailable(api: Api, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.push("hello")

    async def away(*_: object, **__: object) -> None:
        raise Unavailable("Redis does not answer", retry_after_s=1.5)

    monkeypatch.setattr(world.registry, "apply", away)
    response = await api.send("PUT", "/v1/functions/hello/scale", body={"min": 1})
    assert response.status == 503
    assert response.headers["Retry-After"] == "2"
    assert (await api.call("GET", "/v1/functions/hello"))[0] == 200, "what is known is still shown"


async def test_a_change_outlives_its_client(api: Api, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.push("hello")
    apply = world.registry.apply
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(**more: Any) -> list[Function]:
        begun.set()
        await go.wait()
        return await apply(**more)

    monkeypatch.setattr(world.registry, "apply", slow)
    sending = asyncio.create_task(api.send("PUT", "/v1/functions/hello/scale", body={"min": 3}))
    await begun.wait()
    sending.cancel()
    await asyncio.wait({sending})
    go.set()
    name = FunctionName("default", "hello")
    await wait_until(lambda: world.catalog.get(name).scale.min == 3, 5, "the change was finished")
