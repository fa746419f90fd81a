"""Rollouts, quotas and drains over the API, and what they leave in the audit trail."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.support import Api
from tests.unit.control.world import SHOP_DEPLOYER, World

PATH = "/v1/functions/hello/rollout"
QUOTA = "/v1/apps/shop/quota"


async def trail(api: Api) -> list[tuple[str, str, str]]:
    _, entries = await api.call("GET", "/v1/audit")
    return [(entry["verb"], entry["outcome"], entry.get("detail", "")) for entry in entries]


async def test_a_rollout(api: Api, world: World) -> None:
    await world.push("hello", code="1")
    assert await api.call("GET", PATH) == (200, {"rollout": None})
    await world.push("hello", code="2", alias="canary")
    status, begun = await api.call("POST", PATH, body={"steps": [10, 100], "every_s": 60, "max_p95": None})
    assert status == 200
    assert (begun["version"], begun["live"], begun["share"], begun["state"]) == (2, 1, 10, "running")
    assert (begun["max_errors"], begun["max_p95"], begun["min_sample"]) == (0.01, None, 100)
    assert begun["measured"] == [{"version": n, "calls": 0, "errors": 0, "p95_ms": None} for n in (1, 2)]
    assert (await api.call("GET", "/v1/functions/hello"))[1]["aliases"]["live"] == {"1": 90, "2": 10}
    status, problem = await api.call("POST", PATH, body={})
    assert (status, "is going on" in problem["detail"]) == (409, True)
    for verb, state in (("pause", "paused"), ("resume", "running"), ("abort", "aborted")):
        status, view = await api.call("POST", f"{PATH}/{verb}")
        assert (status, view["state"]) == (200, state)
        assert view["reason"] == "by admin"
    assert view["measured"] == []
    assert [event["what"] for event in view["history"]] == ["started", "paused", "resumed", "aborted"]
    assert (await api.call("POST", f"{PATH}/resume"))[0] == 409
    assert await trail(api) == [
        ("start_rollout", "ok", "steps 10,100 every 60 s"),
        ("start_rollout", "conflict", ""),
        ("pause_rollout", "ok", ""),
        ("resume_rollout", "ok", ""),
        ("abort_rollout", "ok", ""),
        ("resume_rollout", "conflict", ""),
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"steps": [5, 1]}, "rising"),
        ({"steps": []}, "steps"),
        ({"every_s": 0}, "every"),
        ({"max_errors": 2}, "max_errors"),
        ({"to": 0}, "to"),
        ({"min_sample": "x"}, "min_sample"),
    ],
)
async def test_bad_rollouts(api: Api, world: World, body: dict[str, Any], words: str) -> None:
    await world.push("hello")
    status, problem = await api.call("POST", PATH, body=body)
    assert (status, words in problem["detail"]) == (422, True), problem


async def test_quota(api: Api, world: World) -> None:
    none = {"app": "shop", "instances": None, "memory": None, "queue": None, "rps": None}
    assert await api.call("GET", QUOTA) == (200, none)
    limits = {"instances": 20, "memory": 4 << 30, "queue": 10_000, "rps": 100.0}
    assert await api.call("PUT", QUOTA, body=limits) == (200, {"app": "shop", **limits})
    assert await api.call("GET", QUOTA, token=SHOP_DEPLOYER) == (200, {"app": "shop", **limits})
    assert (await api.call("PUT", QUOTA, body={"rps": -1}))[0] == 422
    assert (await api.call("DELETE", QUOTA, token=SHOP_DEPLOYER))[0] == 403, "its own limit is not its own to lift"
    assert await api.call("DELETE", QUOTA) == (200, none)
    assert [entry[:2] for entry in await trail(api)] == [
        ("set_quota", "ok"), ("set_quota", "invalid"), ("reset_quota", "ok"),
    ]  # fmt: skip


async def test_nodes(api: Api, world: World) -> None:
    status, node = await api.call("POST", "/v1/nodes/one/drain", body={"grace_s": 1})
    assert (status, node["draining"]) == (200, True)
    assert "n:n-1" in world.catalog.snapshot.others
    assert (await api.call("POST", "/v1/nodes/n-1/undrain"))[1]["draining"] is False
    assert "n:n-1" not in world.catalog.snapshot.others
    status, problem = await api.call("POST", "/v1/nodes/onne/drain", body={})
    assert (status, problem["hint"]) == (404, 'Did you mean "one"?')
    assert (await api.call("POST", "/v1/nodes/one/drain", body={"grace_s": 1e9}))[0] == 422
