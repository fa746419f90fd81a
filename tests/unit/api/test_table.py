"""Every row of the table: served, guarded, described."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest

from faas.api.openapi import document
from faas.api.routes import all_routes
from faas.api.table import PARAMETERS, Route
from faas.store.queue import Done, Input, NewJob, Result, Want
from tests.unit.api.support import Api
from tests.unit.control.world import ADMIN, READER, SHOP_DEPLOYER, World

ROUTES = all_routes("0.0.test")
EXAMPLES = {
    "name": "hello", "app": "default", "alias": "canary", "secret": "KEY", "token": "ci", "sha": "0" * 64,
    "node": "one", "invocation": "c-" + "0" * 28,
}  # fmt: skip


def path_of(row: Route, **more: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: {**EXAMPLES, **more}[match[1]], row.path)


def guarded() -> list[Route]:
    return [row for row in ROUTES if row.role is not None and not row.open_on_loopback]


@pytest.fixture(params=guarded(), ids=lambda row: f"{row.method} {row.path}")
def row(request: pytest.FixtureRequest) -> Route:
    found: Route = request.param
    return found


async def test_no_token(api: Api, row: Route) -> None:
    response = await api.send(row.method, path_of(row), token=None)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert response.content_type == "application/problem+json"


async def test_wrong_token(api: Api, row: Route) -> None:
    for token in ("wrong", "", ADMIN[:-1], ADMIN + "x"):
        assert (await api.send(row.method, path_of(row), token=token)).status == 401


async def test_right_token(api: Api, row: Route) -> None:
    response = await api.send(row.method, path_of(row))
    assert response.status not in (401, 403, 405, 500), "whatever it says, it is served"
    if response.status == 404 and row.method != "HEAD":
        assert "there is no /v1" not in (await response.json())["detail"]


async def test_reader(api: Api, row: Route) -> None:
    response = await api.send(row.method, path_of(row), token=READER)
    assert (response.status == 403) == (row.role != "read")


async def test_deployer_of_another_app(api: Api, row: Route) -> None:
    response = await api.send(row.method, path_of(row), token=SHOP_DEPLOYER)
    in_an_app = "{name}" in row.path or "{app}" in row.path
    never = row.whole or row.role == "admin"
    assert (response.status == 403) == (in_an_app or never)
    if never:
        return
    mine = path_of(row, name="hello.shop", app="shop")
    assert (await api.send(row.method, mine, token=SHOP_DEPLOYER)).status != 403


@pytest.mark.parametrize("row", [row for row in ROUTES if row.role is None], ids=lambda row: row.path)
async def test_open_routes(api: Api, row: Route) -> None:
    assert (await api.send(row.method, row.path, token=None)).status == 200
    assert (await api.send(row.method, row.path, token="wrong")).status == 200


@pytest.mark.parametrize("row", [row for row in ROUTES if row.method == "GET"], ids=lambda row: row.path)
async def test_head(api: Api, world: World, row: Route) -> None:
    await world.push("hello")
    await _dead_letter(world, EXAMPLES["invocation"])
    queries = {"/logs": "?follow=1", "/audit": "?follow=1", "/diff": "?from=1&to=1"}
    path = path_of(row) + queries.get(row.path[row.path.rindex("/") :], "")
    response = await api.send("HEAD", path)
    assert response.status == 200
    assert await response.read() == b""


async def _dead_letter(world: World, id: str) -> None:
    queue = world.services.jobs.queue
    await queue.enqueue([NewJob(id=id, function="default/hello", input=Input(target="hello"))])
    (job,) = (await queue.take(Want(node="n-1", each=1))).jobs
    done = Done(id=id, take=job.take, state="dead", cause="status 200", result=Result(status=200, body=b"odd"))
    await queue.turn([done])


@pytest.mark.parametrize("row", [row for row in ROUTES if "{" in row.path], ids=lambda row: row.id)
async def test_bad_path_parameters(api: Api, row: Route) -> None:
    for name in re.findall(r"\{(\w+)\}", row.path):
        for bad in ("..%2F", "%00", "A%20b", "x" * 300, "%F0%9F%92%A9"):
            response = await api.send(row.method, path_of(row, **{name: bad}))
            assert response.status == 422, (name, bad)


@pytest.mark.parametrize("row", [row for row in ROUTES if row.body is not None], ids=lambda row: row.id)
async def test_bad_bodies(api: Api, row: Route) -> None:
    for data, status in (
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"surplus": 1}', 422),
        (b"[" * 100_000, 422),
        (b'{"functions": ' * 10_000, 422),
        (io.BytesIO(b" " * (row.body_max + 1)), 413),
    ):
        answered, problem = await api.call(row.method, path_of(row), data=data)
        assert answered == status, data
        assert problem["fault"] == "caller"
        assert problem["detail"]


def test_every_parameter_is_used_and_documented() -> None:
    used = {name for row in ROUTES for name in re.findall(r"\{(\w+)\}", row.path)}
    assert used == set(PARAMETERS) == set(EXAMPLES)
    assert len({(row.method, row.path) for row in ROUTES}) == len(ROUTES)


async def test_openapi_describes_every_row(api: Api) -> None:
    status, described = await api.call("GET", "/openapi.json", token=None)
    assert status == 200
    assert described == json.loads(json.dumps(document(ROUTES, "0.0.test")))
    for row in ROUTES:
        operation = described["paths"][row.path][row.method.lower()]
        assert operation["summary"] == row.summary
        assert operation.get("x-role") == row.role
    ids = [op["operationId"] for path in described["paths"].values() for op in path.values()]
    assert len(set(ids)) == len(ids)


def test_openapi_has_the_right_form() -> None:
    described = document(ROUTES, "1")
    jsonschema.Draft202012Validator(SHAPE).validate(described)
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in _references(described):
        name = reference.removeprefix("#/components/schemas/")
        assert name in described["components"]["schemas"], reference


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in _references(item)]
    if isinstance(value, list):
        return [found for item in value for found in _references(item)]
    return []


_CONTENT = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "type": "object",
        "properties": {"schema": {"type": "object"}},
        "additionalProperties": False,
    },
}
_OPERATION = {
    "type": "object",
    "required": ["operationId", "summary", "responses", "security"],
    "properties": {
        "operationId": {"type": "string", "pattern": "^[a-z_]+$"},
        "summary": {"type": "string", "minLength": 5},
        "parameters": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "in", "required", "schema"],
                "properties": {"in": {"enum": ["path", "query"]}, "schema": {"type": "object"}},
                "if": {"properties": {"in": {"const": "path"}}},
                "then": {"properties": {"required": {"const": True}}},
            },
        },
        "requestBody": {"type": "object", "required": ["content"], "properties": {"content": _CONTENT}},
        "responses": {
            "type": "object",
            "patternProperties": {
                "^[2-5][0-9]{2}$": {
                    "type": "object",
                    "required": ["description"],
                    "properties": {"content": _CONTENT},
                }
            },
            "additionalProperties": False,
            "minProperties": 2,
        },
        "security": {"type": "array"},
    },
}
SHAPE = {
    "type": "object",
    "required": ["openapi", "info", "paths", "components"],
    "properties": {
        "openapi": {"const": "3.1.0"},
        "info": {"type": "object", "required": ["title", "version"]},
        "paths": {
            "type": "object",
            "patternProperties": {
                "^/": {
                    "type": "object",
                    "propertyNames": {"enum": ["get", "put", "post", "delete", "head"]},
                    "additionalProperties": _OPERATION,
                }
            },
            "additionalProperties": False,
        },
        "components": {"type": "object", "required": ["schemas", "securitySchemes"]},
    },
}
