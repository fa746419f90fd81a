"""Tokens and the audit trail, as a client sees them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from faas.control.tokens import Principal
from faas.errors import Unavailable
from faas.store.audit import AuditLog
from tests.support import wait_until
from tests.unit.api.support import Api
from tests.unit.api.test_functions import a_push
from tests.unit.control.world import ADMIN, READER, SHOP_DEPLOYER, World

BOSS = Principal(name="boss", roles=frozenset({"admin"}))


async def trail(api: Api, query: str = "", **more: Any) -> list[dict[str, Any]]:
    status, entries = await api.call("GET", f"/v1/audit{query}", **more)
    assert status == 200
    found: list[dict[str, Any]] = entries
    return found


async def test_tokens(api: Api) -> None:
    body = {"name": "ci", "roles": ["deploy", "read"], "apps": ["shop"], "expires_s": 3600}
    status, made = await api.call("POST", "/v1/tokens", body=body)
    assert status == 200
    assert made["token"].startswith("faas_")
    assert (await api.call("GET", "/v1/functions", token=made["token"]))[0] == 200
    status, listed = await api.call("GET", "/v1/tokens")
    assert (status, made["token"] in str(listed)) == (200, False)
    (view,) = listed["tokens"]
    assert (view["name"], view["roles"], view["apps"], view["created_by"]) == (
        "ci",
        ["deploy", "read"],
        ["shop"],
        "admin",
    )
    assert view["expires_at"] == view["created_at"] + 3600
    status, revoked = await api.call("DELETE", f"/v1/tokens/{view['id']}")
    assert (status, revoked) == (200, view)
    assert (await api.call("DELETE", "/v1/tokens/ci"))[0] == 404
    assert made["token"] not in str(await trail(api))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "ci", "roles": ["root"]}, "roles"),
        ({"name": "ci", "roles": ["read"], "expires_s": 0}, "expires_s"),
        ({"name": "ci", "roles": ["read"], "expires_s": 1e300}, "expires_s"),
        ({"name": "a b", "roles": ["read"]}, "token name"),
        ({"name": "ci", "roles": []}, "at least one role"),
    ],
)
async def test_bad_tokens(api: Api, body: dict[str, Any], words: str) -> None:
    status, problem = await api.call("POST", "/v1/tokens", body=body)
    assert (status, words in problem["detail"]) == (422, True)


async def test_an_app_admin_stays_in_the_app(api: Api) -> None:
    body = {"name": "boss", "roles": ["admin"], "apps": ["shop"]}
    boss = (await api.call("POST", "/v1/tokens", body=body))[1]["token"]
    status, problem = await api.call(
        "POST", "/v1/tokens", token=boss, body={"name": "x", "roles": ["read"], "apps": ["other"]}
    )
    assert (status, "app other" in problem["detail"]) == (403, True)
    status, made = await api.call("POST", "/v1/tokens", token=boss, body={"name": "x", "roles": ["admin"]})
    assert (status, made["apps"]) == (200, ["shop"])


async def test_the_trail_says_who_did_what_to_which_function(api: Api, world: World) -> None:
    for code in "12":
        sha = await world.bundle(code)
        await api.call("POST", "/v1/apps/shop/push", token=SHOP_DEPLOYER, body=a_push(sha, "a", "b"))
    await api.call("POST", "/v1/functions/a.shop/rollback", body={})
    await api.call("PUT", "/v1/functions/a.shop/aliases/canary", body={"weights": {"1": 90, "2": 10}})
    await api.call("POST", "/v1/functions/a.shop/rollback", body={"to": 9})
    await api.call("PUT", "/v1/secrets/shop/KEY", body={"value": "hunter2"})
    await api.call("PUT", "/v1/functions/b.shop/scale", token=READER, body={"min": 1})
    entries = await trail(api)
    assert "hunter2" not in str(entries)
    shown = [(e["by"], e["verb"], e["outcome"], e.get("functions"), e.get("detail")) for e in entries]
    first = [{"name": "a.shop", "to": 1}, {"name": "b.shop", "to": 1}]
    second = [{"name": "a.shop", "from": 1, "to": 2}, {"name": "b.shop", "from": 1, "to": 2}]
    a = [{"name": "a.shop"}]
    assert shown == [
        ("shop", "push", "ok", first, "alias live"),
        ("shop", "push", "ok", second, "alias live"),
        ("admin", "rollback", "ok", [{"name": "a.shop", "from": 2, "to": 1}], None),
        ("admin", "set_alias", "ok", a, "canary -> @1 90%, @2 10%"),
        ("admin", "rollback", "not_found", a, None),
        ("admin", "set_secret", "ok", None, "KEY"),
    ], "what was refused for want of a role is in the node's log"
    assert {entry["app"] for entry in entries} == {"shop"}
    assert {entry["address"] for entry in entries} == {"127.0.0.1"}
    assert entries == sorted(entries, key=lambda entry: entry["at"])
    assert [e["verb"] for e in await trail(api, "?function=b.shop")] == ["push", "push"]
    assert [e["verb"] for e in await trail(api, "?limit=1")] == ["set_secret"]
    assert await trail(api, "?app=other") == []


async def test_a_failed_push_is_in_the_trail(api: Api) -> None:
    await api.call("POST", "/v1/apps/shop/push", body=a_push("0" * 64))
    (entry,) = await trail(api)
    assert (entry["verb"], entry["outcome"], "is not stored here" in entry["detail"]) == ("push", "invalid", True)


async def test_a_push_counts_when_its_client_leaves_at_the_last_event(api: Api, world: World) -> None:
    body, headers = json.dumps(a_push(await world.bundle("x"))), {"Authorization": f"Bearer {ADMIN}"}
    for _ in range(5):
        async with api.client.post("/v1/apps/shop/push", data=body, headers=headers) as response:
            while b'"done"' not in await response.content.readline():
                pass
            response.close()
    entries = await wait_until(lambda: _enough(api, 5), 10, "every push is in the trail")
    assert {entry["outcome"] for entry in entries} == {"ok"}


async def test_a_push_that_is_given_up_says_so(api: Api, world: World) -> None:
    gate = world.runner.gates["hello"] = asyncio.Event()
    body, headers = json.dumps(a_push(await world.bundle("x"))), {"Authorization": f"Bearer {ADMIN}"}
    async with api.client.post("/v1/apps/shop/push", data=body, headers=headers) as response:
        await response.content.readline()
        response.close()
    (entry,) = await wait_until(lambda: _enough(api, 1), 10, "it is in the trail")
    gate.set()
    assert (entry["outcome"], entry["functions"]) == ("cancelled", [{"name": "hello.shop"}])


async def _enough(api: Api, count: int) -> list[dict[str, Any]]:
    entries = await trail(api)
    return entries if len(entries) >= count else []


async def test_a_rollback_of_everything_is_one_entry_an_app(api: Api, world: World) -> None:
    for code in "12":
        for app in ("shop", "till"):
            await world.push("a", app=app, code=code)
    status, rolled = await api.call("POST", "/v1/rollback")
    assert status == 200
    assert rolled == {"moved": {f"a.{app}": {"from": 2, "to": 1} for app in ("shop", "till")}, "stayed": []}
    assert [(e["app"], e["functions"][0]["to"]) for e in await trail(api)] == [("shop", 1), ("till", 1)]
    assert [e["app"] for e in await trail(api, token=SHOP_DEPLOYER)] == ["shop"]


async def test_many_functions_are_counted(api: Api, world: World) -> None:
    names = [f"f{number}" for number in range(130)]
    await world.push(*names, app="shop")
    await api.call("POST", "/v1/apps/shop/pause", body={})
    (entry,) = await trail(api)
    assert (len(entry["functions"]), entry["more"], entry["detail"]) == (100, 30, "paused by admin")
    assert len(await trail(api, "?function=f129.shop")) == 1, "it was about that one too"


async def test_follow(api: Api, world: World) -> None:
    await world.push("a", app="shop")
    await world.push("b")
    await api.call("PUT", "/v1/functions/a.shop/scale", body={"min": 1})
    async with asyncio.timeout(20):
        async with api.client.get(
            "/v1/audit?follow=1&app=shop", headers={"Authorization": f"Bearer {ADMIN}"}
        ) as response:
            first = json.loads(await response.content.readline())
            await api.call("PUT", "/v1/functions/b/scale", body={"min": 1})
            await api.call("DELETE", "/v1/functions/a.shop/scale")
            second = json.loads(await response.content.readline())
    assert [(e["verb"], e["app"]) for e in (first, second)] == [("set_scale", "shop"), ("reset_scale", "shop")]


async def test_a_change_counts_even_when_the_trail_is_away(
    api: Api, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.push("hello")

    async def away(*_: object) -> None:
        raise Unavailable("Redis does not answer")

    monkeypatch.setattr(AuditLog, "add", away)
    status, shown = await api.call("PUT", "/v1/functions/hello/scale", body={"min": 3})
    assert (status, shown["min"]) == (200, 3)


@pytest.mark.parametrize("query", ["limit=-1", "limit=99999", "function=A", "app=A", "x=1"])
async def test_bad_queries(api: Api, query: str) -> None:
    assert (await api.call("GET", f"/v1/audit?{query}"))[0] == 422


async def test_the_trail_forgets_its_oldest(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faas.store.audit.LENGTH", 100)
    await world.push("hello")
    for _ in range(310):
        await world.services.audit.record(BOSS, "", "push", "ok", app="default", touched={}, detail="")
    assert 100 <= len(await trail(api, "?limit=10000")) <= 250
