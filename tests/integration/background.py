"""Background calls as a client makes them, for the tests of this folder and of `tests/fault`."""

from __future__ import annotations

from typing import Any

from tests.integration.conftest import log_lines
from tests.integration.node import Reply, RunningNode

BATCH = {"Content-Type": "application/vnd.faas.batch+json"}


async def post(node: RunningNode, name: str, event: Any, **headers: str) -> Reply:
    """`POST /async-function/NAME`; underscores in header names are hyphens."""
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    async with node.http.post(f"/async-function/{name}", json=event, headers=given) as answer:
        return Reply(answer.status, answer.headers, await answer.read())


async def enqueue(node: RunningNode, name: str, event: Any, **headers: str) -> str:
    """The id of an accepted call."""
    reply = await post(node, name, event, **headers)
    assert reply.status == 202, reply
    return str(reply.json()["id"])


async def look(node: RunningNode, id: str, wait: float = 0.0) -> dict[str, Any]:
    """`GET /v1/invocations/ID`."""
    found: dict[str, Any] = await node.api("GET", f"/v1/invocations/{id}", params={"wait": str(wait)})
    return found


async def ended(node: RunningNode, id: str, wait: float = 20.0) -> dict[str, Any]:
    """The same, once it has ended. AssertionError when it has not within `wait` seconds."""
    found = await look(node, id, wait)
    assert found["invocation"]["ended_at"], f"{id} has not ended: {found}"
    return found


async def result(node: RunningNode, id: str) -> Reply:
    """`GET /v1/invocations/ID/result`."""
    async with node.http.get(f"/v1/invocations/{id}/result") as answer:
        return Reply(answer.status, answer.headers, await answer.read())


async def printed(node: RunningNode, name: str, word: str, id: str) -> int:
    """How often a call printed a line that begins with `word`."""
    return sum(line.text.startswith(f"{word} {id}") for line in await log_lines(node, name, grep=id))
