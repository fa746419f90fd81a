"""The API from push to removal, as a client sees it."""

from __future__ import annotations

from typing import Any

import pytest

from faas.control.ports import PoolView
from faas.names import FunctionName
from tests.unit.api.support import Api
from tests.unit.control.world import SHOP_DEPLOYER, World


def a_push(sha: str, *names: str, alias: str = "live", **settings: Any) -> dict[str, Any]:
    return {
        "alias": alias,
        "functions": [{"name": name, "code": sha, "settings": settings} for name in names or ("hello",)],
    }


async def test_push_show_and_remove(api: Api, world: World) -> None:
    sha = await world.bundle("x")
    status, events = await api.call("POST", "/v1/apps/shop/push", body=a_push(sha, memory=1 << 26))
    assert status == 200
    assert [event["phase"] for event in events] == ["stored", "starting", "ready", "live", "done"]
    world.runner.views[FunctionName("shop", "hello")] = [
        PoolView(version=1, states={"ready": 2, "busy": 1}, free=2, waiting=1, in_flight=1)
    ]
    status, shown = await api.call("GET", "/v1/functions/hello.shop")
    assert status == 200
    expected = {
        "name": "hello.shop",
        "app": "shop",
        "function": "hello",
        "live": 1,
        "aliases": {"live": {"1": 100}},
        "runtime": "python3.11",
        "memory": 1 << 26,
        "min": 0,
        "max": 20,
        "instances": 3,
        "in_flight": 1,
        "waiting": 1,
        "url": "http://node.test:8080/function/hello.shop",
        "created_by": "admin",
        "paused": "",
        "state": "ready",
        "public": False,
        "settings": {"memory": "64MiB"},
        "scale": {},
        "code": sha,
        "deps": "",
    }
    assert {key: shown[key] for key in expected} == expected
    assert shown["pools"][0]["states"] == {"ready": 2, "busy": 1}
    status, listed = await api.call("GET", "/v1/functions?app=shop")
    assert [item["name"] for item in listed["functions"]] == ["hello.shop"]
    assert (await api.call("GET", "/v1/functions?app=other"))[1] == {"functions": []}
    assert (await api.call("DELETE", "/v1/functions/hello.shop")) == (204, None)
    status, problem = await api.call("GET", "/v1/functions/hello.shop")
    assert (status, problem["code"], problem["fault"]) == (404, "not_found", "caller")


@pytest.mark.parametrize(
    ("pool", "state"),
    [
        (PoolView(version=1, states={}), "cold"),
        (PoolView(version=1, states={"starting": 1}), "ready"),
        (PoolView(version=1, states={}, last_error="boom"), "crash_loop"),
        (PoolView(version=1, states={"ready": 1}, free=1, last_error="boom"), "ready"),
        (PoolView(version=2, states={"ready": 1}, free=1), "cold"),
    ],
)
async def test_state(api: Api, world: World, pool: PoolView, state: str) -> None:
    await world.push("hello")
    world.runner.views[FunctionName("default", "hello")] = [pool]
    assert (await api.call("GET", "/v1/functions/hello"))[1]["state"] == state


async def test_failed_push_is_told_in_the_stream(api: Api, world: World) -> None:
    status, events = await api.call("POST", "/v1/apps/default/push", body=a_push("0" * 64))
    assert status == 200
    assert events[-1]["phase"] == "failed"
    assert events[-1]["error"]["status"] == 422


async def test_unknown_settings_are_refused(api: Api) -> None:
    status, problem = await api.call("POST", "/v1/apps/default/push", body=a_push("0" * 64, memroy=1))
    assert status == 422
    assert problem["detail"] == 'function "hello": unknown setting "memroy"'
    assert problem["hint"] == 'Did you mean "memory"?'
    status, problem = await api.call("POST", "/v1/apps/default/push", body=a_push("0" * 64, memory="x"))
    assert status == 422
    assert "$.functions[0].settings.memory" in problem["detail"]


async def test_scale_versions_rollback_aliases(api: Api, world: World) -> None:
    for code in "123":
        await world.push("hello", code=code)
    status, shown = await api.call("PUT", "/v1/functions/hello/scale", body={"min": 2, "max": None})
    assert (status, shown["min"], shown["max"], shown["scale"]) == (200, 2, 20, {"min": 2})
    status, shown = await api.call("DELETE", "/v1/functions/hello/scale")
    assert (status, shown["min"], shown["scale"]) == (200, 0, {})
    assert await api.call("POST", "/v1/functions/hello/rollback", body={}) == (200, {"from": 3, "to": 2})
    assert await api.call("POST", "/v1/functions/hello/rollback", body={"to": 1}) == (200, {"from": 2, "to": 1})
    body = {"weights": {"3": 90, "1": 10}}
    status, shown = await api.call("PUT", "/v1/functions/hello/aliases/canary", body=body)
    assert (status, shown["aliases"]["canary"]) == (200, {"1": 10, "3": 90})
    status, listed = await api.call("GET", "/v1/functions/hello/versions")
    assert [(item["number"], item["aliases"]) for item in listed["versions"]] == [
        (3, ["canary"]),
        (2, []),
        (1, ["canary", "live"]),
    ]
    assert (await api.call("DELETE", "/v1/functions/hello/aliases/canary"))[0] == 200
    assert (await api.call("DELETE", "/v1/functions/hello/aliases/live"))[0] == 409
    assert (await api.call("POST", "/v1/functions/hello/rollback", body={"to": 0}))[0] == 422


async def test_secrets(api: Api) -> None:
    status, shown = await api.call("PUT", "/v1/secrets/shop/KEY", body={"value": "v4lue"})
    assert (status, shown["app"], shown["name"]) == (200, "shop", "KEY")
    await api.call("PUT", "/v1/secrets/other/KEY", body={"value": "v4lue"})
    status, listed = await api.call("GET", "/v1/secrets")
    assert [secret["app"] for secret in listed["secrets"]] == ["other", "shop"]
    assert "v4lue" not in str(listed)
    assert await api.call("DELETE", "/v1/secrets/shop/KEY") == (204, None)
    assert (await api.call("DELETE", "/v1/secrets/shop/KEY"))[0] == 404
    status, problem = await api.call("PUT", "/v1/secrets/shop/KEY", body={"value": "x" * 70_000})
    assert status == 413
    assert "xxxx" not in str(problem)


async def test_a_token_for_one_app_lists_only_that(api: Api, world: World) -> None:
    await world.push("a", app="shop")
    await world.push("b", app="other")
    await world.services.secrets.set("other", "KEY", "v")
    _, listed = await api.call("GET", "/v1/functions", token=SHOP_DEPLOYER)
    assert [item["name"] for item in listed["functions"]] == ["a.shop"]
    assert (await api.call("GET", "/v1/secrets", token=SHOP_DEPLOYER))[1] == {"secrets": []}
    assert (await api.call("GET", "/v1/functions?app=other", token=SHOP_DEPLOYER))[0] == 403
    assert (await api.call("GET", "/v1/secrets?app=other", token=SHOP_DEPLOYER))[0] == 403


@pytest.mark.parametrize("query", ["ap=x", "app=A", "app=a&app=b"])
async def test_bad_queries(api: Api, query: str) -> None:
    status, problem = await api.call("GET", f"/v1/functions?{query}")
    assert status == 422
    assert problem["detail"]
