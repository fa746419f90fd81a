"""Handlers: health, status, nodes, runtimes, metrics and the API's own description."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from faas.api.http import json_reply
from faas.api.schemas import Health, NodeList, Ready, RedisStatus, RuntimeList, Status
from faas.api.table import Call
from faas.errors import FaasError
from faas.names import FunctionName

PROBE_S = 3.0
"""Longest wait for an answer about health: no answer is an answer."""


async def healthz(call: Call) -> Health:
    """The event loop answers."""
    return Health(ok=True)


async def readyz(call: Call) -> web.Response:
    """200 when this node should get calls, else 503; the body says what is wrong."""
    probes = call.services.probes
    redis, driver = await asyncio.gather(_redis(probes.redis()), _driver(probes.driver()))
    problems = {"redis": redis, "driver": driver, "disk": probes.disk()}
    if call.ending.is_set() or call.services.runner.node_info().draining:
        problems["node"] = "it is stopping or being drained"
    problems = {part: finding for part, finding in problems.items() if finding}
    ready = Ready(ready=not problems, problems=problems)
    return json_reply(ready, 200 if ready.ready else 503)


async def status(call: Call) -> Status:
    """The node, its Redis and its instances."""
    services = call.services
    seen = [f.id for f in services.catalog.snapshot.functions.values() if call.who.sees(f.app)]
    try:
        async with asyncio.timeout(PROBE_S):
            redis = await services.probes.redis()
    except TimeoutError:
        redis = RedisStatus(url="", ok=False, durable=False, finding=_silent("Redis"))
    except FaasError as error:
        redis = RedisStatus(url="", ok=False, durable=False, finding=error.message)
    return Status(
        node=services.runner.node_info(),
        redis=redis,
        functions=len(seen),
        instances=services.runner.totals() if call.who.apps is None else _instances(call, seen),
        version=services.version,
    )


def _instances(call: Call, functions: Iterable[FunctionName]) -> dict[str, int]:
    """Instances by state, of these functions only."""
    totals: Counter[str] = Counter()
    for name in functions:
        for pool in call.services.runner.pools(name):
            totals.update(pool.states)
    return dict(totals)


async def list_nodes(call: Call) -> NodeList:
    """Every node of the cluster."""
    return NodeList(sorted(await call.services.probes.nodes(), key=lambda node: node.name))


async def list_runtimes(call: Call) -> RuntimeList:
    """What this node can start."""
    return RuntimeList(sorted(await call.services.probes.runtimes()))


async def metrics(call: Call) -> web.Response:
    """Prometheus text. Rendered off the loop: many functions make it long."""
    text = await asyncio.to_thread(generate_latest, call.services.metrics)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})


async def _redis(answer: Awaitable[RedisStatus]) -> str:
    try:
        async with asyncio.timeout(PROBE_S):
            found = await answer
    except TimeoutError:
        return _silent("Redis")
    except FaasError as error:
        return error.message
    return "" if found.ok else found.finding or "Redis does not answer"


async def _driver(answer: Awaitable[str]) -> str:
    try:
        async with asyncio.timeout(PROBE_S):
            return await answer
    except TimeoutError:
        return _silent("the driver")
    except FaasError as error:
        return error.message


def _silent(what: str) -> str:
    return f"{what} did not answer within {PROBE_S:g} s"
