"""How far a token reaches: every operation of the API's own description, with every role, here and in another app."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest

from faas.control.tokens import Principal, Role
from faas.names import FunctionName
from tests.unit.api.support import Api
from tests.unit.control.world import ADMIN, World

INCLUDES: dict[Role, set[str]] = {
    "admin": {"admin", "deploy", "invoke", "read"},
    "deploy": {"deploy", "invoke", "read"},
    "invoke": {"invoke"},
    "read": {"read"},
}
BOSS = Principal(name="boss", roles=frozenset({"admin"}))
PATH = {
    "name": "stripes.zebra", "app": "zebra", "alias": "zcanary", "secret": "ZKEY", "token": "ztoken", "sha": "0" * 64,
    "node": "one", "invocation": "c-" + "0" * 28,
}  # fmt: skip
QUERIES = {"/v1/functions": "app", "/v1/secrets": "app", "/v1/audit": "app"}
WHOLE = {
    ("get", "/metrics"), ("post", "/v1/rollback"),
    ("put", "/v1/apps/{app}/quota"), ("delete", "/v1/apps/{app}/quota"),
    ("post", "/v1/nodes/{node}/drain"), ("post", "/v1/nodes/{node}/undrain"),
}  # fmt: skip
"""About all apps at once: not for a token that is limited to some."""


class Operation(NamedTuple):
    method: str
    path: str
    role: str | None
    """The role its description asks for."""
    also: str | None = None
    """Another one that is enough."""

    @property
    def target(self) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: PATH[match[1]], self.path)

    @property
    def in_app(self) -> bool:
        return "{name}" in self.path or "{app}" in self.path


async def operations(api: Api) -> list[Operation]:
    """As described; those that end things last, so that the others find them."""
    _, described = await api.call("GET", "/openapi.json", token=None)
    found = [
        Operation(method, path, operation.get("x-role"), operation.get("x-also"))
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(found) > 35
    return sorted(found, key=lambda operation: (operation.method == "delete", operation.path))


async def zebra(world: World) -> None:
    """An app with everything an app can have, and traces of it in the audit trail."""
    for code in "12":
        await world.push("stripes", app="zebra", code=code)
    await world.services.secrets.set("zebra", "ZKEY", "v")
    await world.services.functions.set_alias(FunctionName("zebra", "stripes"), "zcanary", {2: 100})
    await world.services.access.create(BOSS, "ztoken", ["read"], ["zebra"], None)


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a listener that others reach: metrics are not open there."""
    monkeypatch.setattr("faas.api.app.socket_host", lambda request: "192.0.2.1")


async def token(world: World, role: Role, apps: list[str] | None) -> str:
    return (await world.services.access.create(BOSS, "walker", [role], apps, None)).token


@pytest.mark.parametrize("apps", [None, ["zebra"]], ids=["everywhere", "own"])
@pytest.mark.parametrize("role", list(INCLUDES))
async def test_a_role_reaches_what_it_includes(api: Api, world: World, role: Role, apps: list[str] | None) -> None:
    await zebra(world)
    mine = await token(world, role, apps)
    for operation in await operations(api):
        response = await api.send(operation.method, operation.target, token=mine)
        whole = apps is not None and operation[:2] in WHOLE
        allowed = operation.role is None or (bool({operation.role, operation.also} & INCLUDES[role]) and not whole)
        assert (response.status in (401, 403)) != allowed, f"{operation}: {response.status}"
        assert response.status != 500, operation


@pytest.mark.parametrize("role", list(INCLUDES))
async def test_a_foreign_token_reaches_and_learns_nothing(api: Api, world: World, role: Role) -> None:
    await zebra(world)
    await api.call("PUT", "/v1/functions/stripes.zebra/scale", body={"min": 1})
    await world.push("mine", app="horse")
    foreign = await token(world, role, ["horse"])
    await world.catalog.load()
    before = world.catalog.snapshot
    for operation in await operations(api):
        response = await api.send(operation.method, operation.target, token=foreign)
        text = await response.text()
        if operation.in_app:
            assert response.status == 403, operation
        elif operation.role is not None:
            assert not re.search("zebra|stripes|ZKEY", text), f"{operation} tells: {text}"
            assert "ztoken" not in text or response.status == 404, operation
    after = world.catalog.snapshot
    assert after.functions["zebra/stripes"] == before.functions["zebra/stripes"]
    assert after.secrets == before.secrets
    assert after.others == before.others
    assert len((await api.call("GET", "/v1/tokens"))[1]["tokens"]) == 2


@pytest.mark.parametrize("path", list(QUERIES))
async def test_a_foreign_token_cannot_ask_for_another_app(api: Api, world: World, path: str) -> None:
    foreign = await token(world, "admin", ["horse"])
    status, problem = await api.call("GET", f"{path}?{QUERIES[path]}=zebra", token=foreign)
    there = problem["detail"]
    assert status == 403
    await zebra(world)
    _, problem = await api.call("GET", f"{path}?{QUERIES[path]}=zebra", token=foreign)
    assert problem["detail"] == there, "the same whether it exists or not"


async def test_lists_hold_what_is_ones_own(api: Api, world: World) -> None:
    await zebra(world)
    await world.push("mine", app="horse")
    foreign = await token(world, "admin", ["horse"])
    await api.call("PUT", "/v1/functions/mine.horse/scale", body={"min": 1})

    async def names(path: str, key: str) -> list[str]:
        found: dict[str, list[dict[str, Any]]] = (await api.call("GET", path, token=foreign))[1]
        return [item["name"] for item in found[key]]

    assert await names("/v1/functions", "functions") == ["mine.horse"]
    assert await names("/v1/apps", "apps") == ["horse"]
    assert await names("/v1/secrets", "secrets") == []
    assert await names("/v1/tokens", "tokens") == ["walker"]
    assert (await api.call("GET", "/v1/status", token=foreign))[1]["functions"] == 1
    assert (await api.call("GET", "/v1/status", token=foreign))[1]["instances"] == {}
    _, entries = await api.call("GET", "/v1/audit", token=foreign)
    assert [entry["app"] for entry in entries] == ["horse"]
    assert (await api.call("GET", "/v1/audit?function=stripes.zebra", token=foreign))[0] == 403


async def test_expired_and_revoked_tokens_are_refused(api: Api, world: World) -> None:
    status, made = await api.call("POST", "/v1/tokens", body={"name": "short", "roles": ["read"], "expires_s": 0.001})
    assert status == 200
    assert (await api.send("GET", "/v1/status", token=made["token"])).status == 401
    _, made = await api.call("POST", "/v1/tokens", body={"name": "long", "roles": ["read"]})
    assert (await api.send("GET", "/v1/status", token=made["token"])).status == 200
    await api.call("DELETE", "/v1/tokens/long")
    assert (await api.send("GET", "/v1/status", token=made["token"])).status == 401
    assert (await api.send("GET", "/v1/status", token=ADMIN)).status == 200
