"""Functions that mean harm on a real node: how they get there, and what must hold after each of their deeds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from faas.archive import pack
from faas.cli.source import Wishes, collect
from faas.model import FunctionPush, Push, PushEvent
from faas.sdk.client import Client
from tests.integration.conftest import put
from tests.integration.node import Reply, RunningNode
from tests.support import ROOT

FIXTURES = ROOT / "tests" / "fixtures" / "hostile"
APP = "hostile"
NEIGHBOUR = f"neighbour.{APP}"
AT_ONCE_S = 2.0
"""What a call may take beside or after a misdeed. A quiet machine needs 5 ms, a cold start included 50."""
DEFECT = "this is a defect"


async def push(node: RunningNode, *names: str, **settings: Any) -> None:
    """Push fixtures under their own names, and the neighbour. Settings are those of a manifest."""
    for name in names:
        await put(node, FIXTURES / f"{name}.py", app=APP, **({"memory": "64M"} | settings))
    await put(node, FIXTURES / "neighbour.py", app=APP, memory="64M", min=1)


async def timed(node: RunningNode, name: str, event: Any, **options: Any) -> tuple[Reply, float]:
    """A reply and the seconds it took."""
    begun = time.monotonic()
    reply = await node.call(f"{name}.{APP}", json=event, **options)
    return reply, time.monotonic() - begun


async def assert_serves(node: RunningNode, name: str) -> None:
    """The function and its neighbour answer at once."""
    for one in (name, "neighbour"):
        reply, took = await timed(node, one, {})
        assert (reply.status, reply.body) == (200, b"fine"), (one, reply)
        assert took < AT_ONCE_S, f"{one} took {took:.2f} s"


@asynccontextmanager
async def unharmed(node: RunningNode, name: str) -> AsyncIterator[None]:
    """Whatever the body does to `name`: the node lives, knows of no defect of its own, and both answer afterwards."""
    pid, seen = node.pid, len(node.log())
    yield
    await assert_serves(node, name)
    assert node.pid == pid
    told = node.log()[seen:]
    assert DEFECT not in told, told[-3_000:]


def problem(reply: Reply, status: int, code: str, fault: str = "function") -> dict[str, Any]:
    """The problem document, which names whose fault it is."""
    assert (reply.status, reply.headers["Content-Type"]) == (status, "application/problem+json"), reply.body[:500]
    document: dict[str, Any] = reply.json()
    assert (document["code"], document["fault"]) == (code, fault), document
    assert document["call_id"] == reply.headers["X-Call-Id"]
    assert document["detail"]
    return document


async def last_event(node: RunningNode, name: str, **settings: Any) -> PushEvent:
    """How a push of a fixture ends, `failed` included."""
    async with Client(node.url, node.token) as client:
        [found] = collect(FIXTURES / f"{name}.py", Wishes("", APP, {"memory": "64M"} | settings), {})
        archive = pack(found.files)
        await client.put_bundle(archive.digest, archive.data)
        item = FunctionPush(name=found.name, code=archive.digest, settings=found.settings)
        return [event async for event in client.push(found.app, Push(functions=[item]))][-1]
