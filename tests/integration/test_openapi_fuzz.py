"""Generated requests, right ones and wrong ones, against every operation that /openapi.json describes, on a real node.

No answer is a 5xx of ours, and each is of a status, a media type and a form that the description promises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from faas.api.openapi import document
from faas.api.routes import all_routes
from tests.integration.conftest import HERE, put
from tests.integration.node import RunningNode

EXAMPLES = 10
"""Requests to an operation that takes anything."""
ANSWER_S = 10.0
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXISTING = {"name": "fuzzed", "app": "default", "alias": "live", "secret": "KNOWN"}
"""Of path parameters: what there is on the node, so that requests get past the first look."""
SCHEMA = schemathesis.openapi.from_dict(document(all_routes("test"), "test"))
Operation = APIOperation[Any, Any, Any, Any]


def described() -> dict[str, Operation]:
    """Every operation by method and path."""
    found = [result.ok() for result in SCHEMA.get_all_operations() if isinstance(result, Ok)]
    return {f"{operation.method.upper()} {operation.path}": operation for operation in found}


OPERATIONS = described()


@pytest.fixture(scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    """A node of our own: whatever is on it may be gone afterwards."""
    async with RunningNode(tmp_path_factory.mktemp("fuzzed"), "--driver", "process", "--stem-cells", "0") as node:
        yield node


async def populate(node: RunningNode) -> None:
    """What `EXISTING` names."""
    await node.api("PUT", "/v1/secrets/default/KNOWN", json={"value": "x"})
    await put(node, HERE / "echo.py", name="fuzzed")


def requests_for(operation: Operation) -> tuple[st.SearchStrategy[Case[Any]], int]:
    """Requests as described, the same about things that exist, and requests that break the description; how many."""
    known = {key: value for key, value in EXISTING.items() if f"{{{key}}}" in operation.path}
    if not (known or operation.path_parameters or operation.query or operation.body):
        return operation.as_strategy(), 1
    wrong = GenerationMode.NEGATIVE
    kinds = [operation.as_strategy(), operation.as_strategy(generation_mode=wrong)]
    if known:
        kinds.append(operation.as_strategy(path_parameters=known))
        if operation.query or operation.body:
            kinds.append(operation.as_strategy(generation_mode=wrong, path_parameters=known))
    return st.one_of(kinds), EXAMPLES


def fuzz(name: str, url: str, token: str) -> None:
    """Send them all. Raises what the first wrong answer is about, with the request that got it."""
    cases, count = requests_for(OPERATIONS[name])
    with requests.Session() as session:

        @seed(20_240_229)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=cases)
        def send(case: Case[Any]) -> None:
            if case.query and "follow" in case.query:
                case.query["follow"] = "false"  # it would never end
            case.call_and_validate(
                base_url=url,
                session=session,
                headers={"Authorization": f"Bearer {token}"},
                checks=CHECKS,
                timeout=ANSWER_S,
            )

        send()


@pytest.mark.parametrize("name", OPERATIONS)
async def test_every_answer_is_as_described(node: RunningNode, name: str) -> None:
    if "{" in name:
        await populate(node)
    await asyncio.to_thread(fuzz, name, node.url, node.token)
    async with node.http.get("/healthz") as answer:
        assert answer.status == 200


def test_every_operation_is_covered() -> None:
    assert len(OPERATIONS) == len(all_routes("test")) > 50
