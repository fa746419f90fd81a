"""OpenAPI 3.1 from the table of routes: what is served and what is described cannot differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from faas.api.http import JSON, NDJSON, PROBLEM
from faas.api.schemas import Problem
from faas.api.table import PARAMETERS, Call, Route
from faas.errors import (
    BadRequest,
    FaasError,
    Forbidden,
    Internal,
    TooLarge,
    TooManyRequests,
    Unauthorized,
)

_REF = "#/components/schemas/{name}"
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_ROLE_DOC = "Needs a token whose role includes `{role}`."
_ROLES_DOC = "Needs a token whose role includes `{role}` or `{also}`."


def openapi(rows: Sequence[Route], version: str) -> Route:
    """The route that serves the description of `rows` and of itself. It is made once."""
    body = b""

    async def describe(call: Call) -> web.Response:
        return web.Response(body=body, content_type=JSON)

    row = Route(
        method="GET",
        path="/openapi.json",
        handler=describe,
        summary="This description",
        role=None,
        reply=dict[str, Any],
    )
    body = msgspec.json.encode(document((*rows, row), version))
    return row


def document(rows: Sequence[Route], version: str) -> dict[str, Any]:
    """The whole description as JSON-ready data."""
    types = list(_types(rows))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    known = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, known, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "faas control API",
            "version": version,
            "description": "Functions, versions, aliases, secrets and logs of one cluster. "
            "Errors are problem documents (RFC 9457) that say whose fault it is and what to do next.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _types(rows: Iterable[Route]) -> Iterable[Any]:
    found: dict[Any, None] = {Problem: None}
    for row in rows:
        found.update((kind, None) for kind in (row.query, row.body, row.reply) if kind is not None)
    return found


def _operation(row: Route, schemas: Mapping[Any, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": row.id,
        "summary": row.summary,
        "parameters": [*_path_parameters(row), *_query_parameters(row, components)],
        "responses": {**_success(row, schemas), **_failures(row, schemas)},
        "security": [] if row.role is None else [{"token": []}],
    }
    if row.role is not None:
        operation["description"] = _ROLE_DOC.format(role=row.role)
        operation["x-role"] = row.role
    if row.also is not None:
        operation["description"] = _ROLES_DOC.format(role=row.role, also=row.also)
        operation["x-also"] = row.also
    if row.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas[row.body]}}}
    if row.raw:
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    return operation


def _path_parameters(row: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PARAMETERS[name].doc,
            "schema": {"type": "string"},
        }
        for name in _PATH_PARAMETER.findall(row.path)
    ]


def _query_parameters(row: Route, components: Mapping[str, Any]) -> list[dict[str, Any]]:
    if row.query is None:
        return []
    properties: dict[str, Any] = components[row.query.__name__]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in properties.items()]


def _success(row: Route, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    if row.text:
        return {"200": {"description": "OK", "content": {row.text: {"schema": {"type": "string"}}}}}
    if row.reply is None:
        return {"204": {"description": "Done; no content"}}
    if row.stream:
        content = {NDJSON: {"schema": schemas[row.reply]}}
        return {"200": {"description": "One JSON object a line; blank lines keep alive", "content": content}}
    responses = {"200": {"description": "OK", "content": {JSON: {"schema": schemas[row.reply]}}}}
    if row.path == "/readyz":
        responses["503"] = {**responses["200"], "description": "Not ready"}
    return responses


def _failures(row: Route, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    """One answer a status; several kinds of error may share it."""
    kinds: list[type[FaasError]] = [*row.errors, Internal]
    if row.role is not None:
        kinds += [Unauthorized, Forbidden, TooManyRequests]
    if row.body is not None:
        kinds += [BadRequest, TooLarge]
    codes: dict[int, set[str]] = {}
    for kind in kinds:
        codes.setdefault(kind.status, set()).add(kind.code)
    content = {PROBLEM: {"schema": schemas[Problem]}}
    return {
        str(status): {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(sorted(codes[status]))}",
            "content": content,
        }
        for status in sorted(codes)
    }
