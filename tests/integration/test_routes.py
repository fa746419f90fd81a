"""Functions at paths of their own, on a real node: who gets a call, what it sees, and what a push may not take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from faas.archive import pack
from faas.cli.source import Wishes, collect
from faas.model import FunctionPush, Push, PushEvent
from faas.sdk.client import Client
from tests.integration.conftest import HERE, put
from tests.integration.node import Reply, RunningNode
from tests.support import wait_until

SOURCE = HERE / "route.py"
PAGE = "https://app.test"


@pytest.fixture(scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    """A node that trusts proxies on this machine and in 10.0.0.0/8, with a few functions at routes."""
    flags = ("--driver", "process", "--trusted-proxies", "127.0.0.1,10.0.0.0/8")
    async with RunningNode(tmp_path_factory.mktemp("routes"), *flags) as node:
        await put(node, SOURCE, name="users", routes=["GET /users/{id}", "POST /users"])
        await put(node, SOURCE, name="files", routes=["/files/*", "GET /files/{id}/raw", "/limited/* rate=2/m body=10"])
        await put(node, SOURCE, name="shop", routes=["shop.test/users/{name}", "shop.test/*"])
        await put(node, SOURCE, name="web", routes=["GET,POST /web", "/public"], cors=[PAGE], public=True, body="1KiB")
        yield node


async def get(node: RunningNode, path: str, method: str = "GET", **options: Any) -> Reply:
    async with node.http.request(method, path, **options) as answer:
        return Reply(answer.status, answer.headers, await answer.read())


async def push(node: RunningNode, *functions: tuple[str, list[str]], alias: str = "live", app: str = "") -> PushEvent:
    """Push functions with these routes in one go; the last event."""
    async with Client(node.url, node.token) as client:
        items = []
        for name, routes in functions:
            (found,) = collect(SOURCE, Wishes(name, app, {"routes": routes}), {})
            archive = pack(found.files)
            await client.put_bundle(archive.digest, archive.data)
            items.append(FunctionPush(name=name, code=archive.digest, settings=found.settings))
        return [event async for event in client.push(app or "default", Push(functions=items, alias=alias))][-1]


async def test_a_route_calls_its_function(node: RunningNode) -> None:
    told = (await get(node, "/users/a%2Fb%20c?x=1")).json()
    assert told["function"] == "users"
    assert told["params"] == {"id": "a/b c"}
    assert told["path"] == "/users/a%2Fb%20c", "the whole path, as it came"
    assert told["url"] == f"{node.url}/users/a%2Fb%20c?x=1"
    assert (await get(node, "/users", "POST", data=b"abc")).json()["size"] == 3
    assert (await get(node, "/files/a/b/")).json()["params"] == {"*": "a/b/"}
    assert (await get(node, "/files/7/raw")).json()["params"] == {"id": "7"}
    assert (await get(node, "/function/users/7")).json()["params"] == {}, "by name there are none"


async def test_hosts(node: RunningNode) -> None:
    shop = {"Host": "Shop.test:1234"}
    assert (await get(node, "/users/ada", headers=shop)).json()["params"] == {"name": "ada"}
    assert (await get(node, "/", headers=shop)).json()["function"] == "shop"
    assert (await get(node, "/healthz", headers=shop)).json() == {"ok": True}, "the platform's own paths stay its own"
    assert (await get(node, "/users/ada")).json()["function"] == "users"


async def test_methods_that_are_not_taken(node: RunningNode) -> None:
    reply = await get(node, "/users/7", "DELETE")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")
    assert reply.json()["code"] == "method_not_allowed"
    head = await get(node, "/users/7", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert (await get(node, "/users/7/more")).status == 404


async def test_background_calls_keep_their_parameters(node: RunningNode) -> None:
    accepted = await get(node, "/users", "POST", headers={"Prefer": "respond-async, wait=20"})
    assert accepted.status == 200, accepted
    assert accepted.json()["path"] == "/users"
    waited = await get(node, "/users/7", headers={"Prefer": "respond-async, wait=20"})
    assert waited.json()["params"] == {"id": "7"}


async def test_routes_go_with_their_version(node: RunningNode) -> None:
    await put(node, SOURCE, name="moving", routes=["/moving/old"])
    assert (await get(node, "/moving/old")).json()["version"] == 1
    await put(node, SOURCE, name="moving", routes=["/moving/new"])
    assert (await get(node, "/moving/old")).status == 404
    assert (await get(node, "/moving/new")).json()["version"] == 2
    await node.api("POST", "/v1/functions/moving/rollback", json={})
    assert (await get(node, "/moving/old")).json()["version"] == 1
    assert (await get(node, "/moving/new")).status == 404
    await node.api("DELETE", "/v1/functions/moving")
    assert (await get(node, "/moving/old")).status == 404


async def test_previews_have_no_routes(node: RunningNode) -> None:
    event = await push(node, ("previewed", ["/users/{any}", "GET /users/{id}"]), alias="pr-1")
    assert event.phase == "done", "a preview takes nobody's route, so it may name any"
    assert (await get(node, "/users/7")).json()["function"] == "users"
    assert (await get(node, "/function/previewed@pr-1")).json()["function"] == "previewed"
    async with node.http.put(
        "/v1/functions/previewed/aliases/live",
        json={"weights": {"1": 100}},
        headers={"Authorization": f"Bearer {node.token}"},
    ) as answer:
        assert answer.status == 409, "but it cannot become live"
        assert "belongs to users" in await answer.text()


async def test_a_conflict_names_the_other_function(node: RunningNode) -> None:
    event = await push(node, ("other", ["GET /users/{who}"]), app="blog")
    assert event.phase == "failed"
    assert event.error is not None
    assert event.error["code"] == "conflict"
    assert event.message == 'other.blog: the route "GET /users/{who}" belongs to users ("GET /users/{id}")'
    twice = await push(node, ("a", ["/same/{x}"]), ("b", ["/same/{y}"]))
    assert twice.message == 'b: the route "/same/{y}" belongs to a ("/same/{x}")'
    itself = await push(node, ("a", ["/same/{x}", "/same/{y}"]))
    assert "are the same" in itself.message
    for fine in (["DELETE /users/{id}"], ["/users/{id}"], ["GET other.test/users/{id}"], ["GET /users/me"]):
        assert (await push(node, ("other", fine), app="blog")).phase == "done", fine
    await node.api("DELETE", "/v1/functions/other.blog")


async def test_two_functions_hand_a_route_over_in_one_push(node: RunningNode) -> None:
    assert (await push(node, ("one", ["/handed"]), ("two", []))).phase == "done"
    assert (await push(node, ("two", ["/handed"]))).phase == "failed"
    assert (await push(node, ("one", []), ("two", ["/handed"]))).phase == "done"
    assert (await get(node, "/handed")).json()["function"] == "two"
    async with node.http.post(
        "/v1/functions/one/rollback", json={}, headers={"Authorization": f"Bearer {node.token}"}
    ) as answer:
        assert answer.status == 409, "going back would take the route from two"
        assert "belongs to two" in await answer.text()
    for name in ("one", "two"):
        await node.api("DELETE", f"/v1/functions/{name}")


@pytest.mark.parametrize("route", ["/v1/x", "/ui/", "/function/users", "/async-function/x", "/metrics", "/healthz"])
async def test_a_route_that_shadows_the_platform_is_refused(node: RunningNode, route: str) -> None:
    headers = {"Authorization": f"Bearer {node.token}"}
    item = {"name": "shadow", "code": "0" * 64, "settings": {"routes": [route]}}
    async with node.http.post("/v1/apps/default/push", json={"functions": [item]}, headers=headers) as answer:
        told = json.loads((await answer.text()).splitlines()[-1])
    assert told["phase"] == "failed"
    assert "belongs to the platform" in told["message"]


async def test_limits_of_a_route(node: RunningNode) -> None:
    too_large = await get(node, "/limited/x", "POST", data=b"x" * 11)
    assert (too_large.status, too_large.json()["code"]) == (413, "too_large")
    client = {"X-Forwarded-For": "198.51.100.7"} | {"Authorization": f"Bearer {node.token}"}
    taken = [(await get(node, "/limited/x", headers=client)).status for _ in range(3)]
    assert taken == [200, 200, 429]
    refused = await get(node, "/limited/y", headers=client)
    assert refused.status == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert (await get(node, "/files/x", headers=client)).status == 200, "other routes of it are not limited"
    other = client | {"X-Forwarded-For": "198.51.100.8"}
    assert (await get(node, "/limited/x", headers=other)).status == 200, "nor are other callers"


async def test_the_rate_of_a_function(node: RunningNode) -> None:
    await put(node, SOURCE, name="rated", rate="3/m", public=True, routes=["/rated"])
    statuses = [(await get(node, path)).status for path in ("/rated", "/function/rated", "/rated", "/function/rated")]
    assert statuses == [200, 200, 200, 429], "one count for all ways to it"
    stored = await get(node, "/async-function/rated", "POST")
    assert stored.status == 429
    await node.api("DELETE", "/v1/functions/rated")


async def test_preflight(node: RunningNode) -> None:
    asks = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    for path in ("/web", "/public", "/function/web"):
        reply = await get(node, path, "OPTIONS", headers=asks)
        assert (reply.status, reply.body) == (204, b""), path
        assert reply.headers["Access-Control-Allow-Origin"] == PAGE
        assert reply.headers["Access-Control-Allow-Methods"] == "POST"
        assert reply.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
        assert reply.headers["Access-Control-Max-Age"] == "600"
    foreign = await get(node, "/web", "OPTIONS", headers=asks | {"Origin": "https://evil.test"})
    assert (foreign.status, foreign.json()["code"]) == (403, "forbidden")
    assert "Access-Control-Allow-Origin" not in foreign.headers
    wrong = await get(node, "/web", "OPTIONS", headers=asks | {"Access-Control-Request-Method": "DELETE"})
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert (await get(node, "/users/7", "OPTIONS", headers=asks)).status == 405, "this one declares no cors"


async def test_replies_to_pages(node: RunningNode) -> None:
    mine = await get(node, "/web", headers={"Origin": PAGE})
    assert mine.headers.getall("Access-Control-Allow-Origin") == [PAGE]  # type: ignore[attr-defined]
    assert sorted(mine.headers.getall("Vary")) == ["Accept", "Origin"]  # type: ignore[attr-defined]
    assert "X-Call-Id" in mine.headers["Access-Control-Expose-Headers"]
    foreign = await get(node, "/web", headers={"Origin": "https://evil.test", "X-Request-Id": "r"})
    assert foreign.status == 200
    assert "Access-Control-Allow-Origin" not in foreign.headers
    error = await get(node, "/web", "POST", headers={"Origin": PAGE}, data=b"x" * 2000)
    assert (error.status, error.headers["Access-Control-Allow-Origin"]) == (413, PAGE), "pages may read errors too"
    later = await get(node, "/web", "POST", headers={"Origin": PAGE, "Prefer": "respond-async"})
    assert (later.status, later.headers["Access-Control-Allow-Origin"]) == (202, PAGE)
    own = await get(node, "/users/7", headers={"Origin": PAGE})
    assert own.headers["Access-Control-Allow-Origin"] == "https://mine.test", "a function without cors does it itself"


async def test_the_caller_behind_proxies(node: RunningNode) -> None:
    token = {"Authorization": f"Bearer {node.token}"}
    chain = {"X-Forwarded-For": "1.1.1.1, 203.0.113.7:5000, 10.0.0.5", "X-Forwarded-Proto": "https"}
    told = (await get(node, "/users/7", headers=token | chain | {"X-Forwarded-Host": "www.test"})).json()
    assert told["client"] == "203.0.113.7"
    assert told["url"] == "https://www.test/users/7"
    sent = await get(node, "/users", "POST", headers=token | chain, data=b"x" * 300_000)
    assert (sent.json()["size"], sent.json()["client"]) == (300_000, "203.0.113.7")
    shop = await get(node, "/users/7", headers=token | chain | {"X-Forwarded-Host": "shop.test"})
    assert shop.json()["function"] == "shop", "routes go by the host the caller asked for"


async def test_a_caller_behind_a_proxy_is_not_local(node: RunningNode) -> None:
    """The listener is loopback, where anonymous callers may call everything; a proxy must not lend that to others."""
    outside = {"X-Forwarded-For": "203.0.113.7"}
    assert (await get(node, "/users/7")).status == 200
    assert (await get(node, "/users/7", headers=outside)).status == 401
    assert (await get(node, "/web", headers=outside)).status == 200, "public"
    assert (await get(node, "/metrics")).status == 200
    assert (await get(node, "/metrics", headers=outside)).status == 401


async def test_guesses_are_counted_for_the_caller_and_not_for_the_proxy(node: RunningNode) -> None:
    async def guess(number: int) -> int:
        headers = {"X-Forwarded-For": "203.0.113.99", "Authorization": f"Bearer wrong-{number}"}
        return (await get(node, "/v1/status", headers=headers)).status

    statuses = [await guess(number) for number in range(15)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert (await get(node, "/v1/status", headers={"Authorization": f"Bearer {node.token}"})).status == 200


async def test_calls_go_on_while_routes_change(node: RunningNode) -> None:
    """Pushes that move other routes about cost callers of a route nothing."""
    statuses: set[int] = set()
    stop = asyncio.Event()

    async def load() -> None:
        while not stop.is_set():
            statuses.add((await get(node, "/users/7")).status)

    task = asyncio.create_task(load())
    for number in range(5):
        await put(node, SOURCE, name="busy", routes=[f"/busy/{number}"])
        await wait_until(lambda: statuses, 10, "a call was answered")
    stop.set()
    await task
    assert statuses == {200}
