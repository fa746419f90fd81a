"""The keystone: the one place that names concrete classes. `python -m faas.serve [flags]` is `faas up`.

Whatever starts is a context manager on one exit stack; what started last stops first:

    data directory lock > Redis > registry > driver > logs > pools > control API and gateway > heartbeat > doors open

Stopping therefore begins with shut doors, then calls that run may end, then the cluster is told, then the rest.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import structlog
import uvloop
from aiohttp import web

from faas.api.app import make_api
from faas.api.services import Services
from faas.assembly import (
    EngineRoom,
    cleaner,
    collector,
    control_room,
    engine_room,
    open_background,
    open_hands,
)
from faas.config import CONFIG_FILE, NodeConfig, load_config, read_flags
from faas.control.duties import bury_nodes, keep_queue
from faas.control.invoke import Invoker
from faas.control.leader import Leader
from faas.drivers.api import Driver
from faas.errors import FaasError, Unavailable
from faas.gateway.front import Front, nothing_else
from faas.gateway.handler import Gateway
from faas.gateway.server import HttpServer
from faas.ids import new_id
from faas.kinds import Address
from faas.node.heartbeat import Heartbeat
from faas.node.outgoing import Outgoing
from faas.node.reaper import Reaper
from faas.node.stems import Kind
from faas.store.leases import Lease
from faas.store.tasks import end
from faas.telemetry import log as logs_of_node

log = structlog.get_logger("faas")

CLOSE_S = 10.0
"""Seconds that closing may take after the drain."""
DEFAULT_RUNTIME = "python3.11"


async def serve(config: NodeConfig) -> None:
    """Run a node until SIGTERM or SIGINT, then drain and stop.

    Raises:
        FaasError: it cannot start; the message names the setting or service and the fix.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        await _start(config, stack)
        await stop.wait()
        log.info("stopping: no new calls, running ones may end", limit_s=config.drain_s)


async def _start(config: NodeConfig, stack: AsyncExitStack) -> None:
    """Bring everything up, pushing each part's end onto `stack`, and print the line that says so."""
    hands = await open_hands(config, stack)
    room = engine_room(config, hands)
    dispatcher, node = room.dispatcher, room.node
    invoker = Invoker(hands.catalog, dispatcher, hands.logs, hands.metrics)
    room.hooks.calls = Outgoing(invoker.call_from_function, lambda: new_id("c"))
    await _run_pools(room, hands.driver, stack)
    stack.callback(hands.catalog.subscribe(lambda snapshot: dispatcher.sync(snapshot.functions)))
    dispatcher.sync(hands.catalog.snapshot.functions)
    await stack.enter_async_context(_beside(hands.catalog.run(), "catalog"))
    background = await open_background(config, hands, room, invoker, stack)
    services = control_room(config, hands, node, background.jobs)
    doors = await _listen(config, services, invoker, stack)
    node.url = doors[-1].url
    await stack.enter_async_context(Heartbeat(hands.nodes, node.node_info, cleaner(hands.nodes, hands.driver)))
    duties = [keep_queue(background.queue), bury_nodes(hands.nodes, background.queue)]
    await stack.enter_async_context(Leader(Lease(hands.redis, "leader", node.id), duties))
    await stack.enter_async_context(_beside(collector(hands, dispatcher).run(), "collector"))
    stack.push_async_callback(dispatcher.drain, config.drain_s)
    stack.callback(background.consumer.stop_taking)
    stack.push_async_callback(_shut, doors)
    # What start-up made lives as long as the node: the collector need not look at it again, ever.
    gc.collect()
    gc.freeze()
    how = f"driver={hands.driver.name} isolation={hands.driver.capabilities.isolation}"
    print(f"ready {node.url}  {how}  data={hands.data.root}", flush=True)


async def _run_pools(room: EngineRoom, driver: Driver, stack: AsyncExitStack) -> None:
    stack.push_async_callback(room.starts.close, CLOSE_S)
    await stack.enter_async_context(room.starts.stems)
    room.starts.stems.use(Kind(DEFAULT_RUNTIME, "egress"))
    await stack.enter_async_context(
        Reaper(node_id=room.node.id, dispatcher=room.dispatcher, starts=room.starts, driver=driver)
    )
    stack.push_async_callback(room.dispatcher.drain, 0)  # of a start that did not come to its end


class _Door(NamedTuple):
    site: web.TCPSite
    url: str


async def _listen(config: NodeConfig, services: Services, invoker: Invoker, stack: AsyncExitStack) -> list[_Door]:
    """Open the listeners; the last one takes calls from outside."""
    api = web.AppRunner(make_api(services), handler_cancellation=True)
    await api.setup()
    stack.push_async_callback(api.cleanup)
    control = api.server
    assert control is not None
    # The operator's door answers calls too, so that one URL serves the whole command line.
    operator = config.listen if config.listen.loopback else config.admin_listen

    def gateway(*, anonymous: bool, sandbox: bool) -> Gateway:
        limit = config.max_body
        known = (services.jobs, services.tokens, services.guesses)
        return Gateway(invoker, *known, anonymous=anonymous, sandbox=sandbox, body_max=limit)

    front = Front(gateway(anonymous=operator.loopback, sandbox=True), control.request_handler)
    server = HttpServer(front.handle, request_factory=control.request_factory)
    if config.listen.loopback:
        return [await _site(server, operator, "--listen", stack)]
    outside = Front(gateway(anonymous=False, sandbox=False), nothing_else)
    return [
        await _site(server, operator, "--admin-listen", stack),
        await _site(HttpServer(outside.handle), config.listen, "--listen", stack),
    ]


async def _site(server: web.Server, address: Address, flag: str, stack: AsyncExitStack) -> _Door:
    runner = web.ServerRunner(server, shutdown_timeout=CLOSE_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, address.host, address.port, backlog=1024)
    try:
        await site.start()
    except OSError as cause:
        raise Unavailable(
            f"cannot listen on {address}: {os.strerror(cause.errno) if cause.errno else cause}",
            hint=f"If another program has the port, stop it or give another with {flag} HOST:PORT.",
        ) from cause
    name, port = runner.addresses[0][:2]
    return _Door(site, f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}")


async def _shut(doors: Sequence[_Door]) -> None:
    """Take no new connections; those that stand get their answers."""
    for door in doors:
        await door.site.stop()


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None], name: str) -> AsyncIterator[None]:
    """Run `work` beside the body."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        await end(task)


def _raise_open_files() -> None:
    """Take what the system grants: each caller's connection and each instance is an open file."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    try:
        text = Path(CONFIG_FILE).read_text() if os.path.exists(CONFIG_FILE) else None
        config = load_config(read_flags(sys.argv[1:] if arguments is None else arguments), os.environ, text)
        logs_of_node.configure(config.log_format, config.log_level)
        _raise_open_files()
        uvloop.run(serve(config))
    except FaasError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return 2 if error.fault == "caller" else 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
