"""The keystone: the one place that names concrete classes. `python -m faas.serve [flags]` is `faas up`.

Whatever starts is a context manager on one exit stack; what started last stops first:

    data directory lock > Redis > registry > driver > logs > pools > control API and gateway > heartbeat > doors open

Stopping therefore begins with shut doors, then calls that run may end, then the cluster is told, then the rest.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
import uvloop
from aiohttp import web

from faas.api.app import make_api
from faas.api.http import LISTENER
from faas.api.services import Services
from faas.assembly import (
    EngineRoom,
    cleaner,
    collector,
    control_room,
    engine_room,
    for_worker,
    open_background,
    open_hands,
    relay_dir,
)
from faas.config import CONFIG_FILE, NodeConfig, load_config, read_flags
from faas.control.dependencies import KeepReady
from faas.control.duties import bury_nodes, keep_queue
from faas.control.held import Holdings
from faas.control.invoke import Invoker
from faas.control.leader import Leader
from faas.control.quotas import Quotas
from faas.control.relay import Relay
from faas.control.releases import Releases
from faas.control.steps import Platform
from faas.drivers.api import Driver
from faas.errors import FaasError
from faas.gateway.front import Front, results_only
from faas.gateway.handler import Gateway
from faas.gateway.proxies import Proxies
from faas.gateway.proxy import CLIENT, SOCKET
from faas.gateway.server import HttpServer
from faas.ids import new_id
from faas.node import disk
from faas.node.heartbeat import Heartbeat
from faas.node.leaving import Leaving
from faas.node.outgoing import Outgoing
from faas.node.reaper import Reaper
from faas.node.stems import Kind
from faas.parts import (
    CLOSE_S,
    Door,
    beside,
    follow_routes,
    open_certificates,
    open_door,
    open_private_door,
    raise_open_files,
    refuse_taken,
)
from faas.store.leases import Lease
from faas.store.queue.queue import Queue
from faas.store.sightings import Sightings
from faas.telemetry import log as logs_of_node
from faas.workers import Workers

log = structlog.get_logger("faas")

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
    quotas = Quotas(hands.catalog, hands.registry)
    room = engine_room(config, hands, quotas)
    dispatcher, node = room.dispatcher, room.node
    releases = Releases.make(
        *(hands.catalog, hands.registry, hands.code, node),
        *(Sightings(hands.redis), quotas, hands.nodes.alive, node.id),
    )
    observer = releases.observer
    invoker = Invoker(hands.catalog, dispatcher, hands.logs, hands.metrics, quotas=quotas, observer=observer)
    holdings = Holdings()
    platform = Platform(invoker.call_from_function, Queue(hands.redis), holdings)
    room.hooks.calls = Outgoing(platform.call, lambda: new_id("c"))
    await _run_pools(room, hands.driver, stack)
    stack.callback(hands.catalog.subscribe(lambda snapshot: dispatcher.sync(snapshot.functions)))
    dispatcher.sync(hands.catalog.snapshot.functions)
    await stack.enter_async_context(beside(hands.catalog.run(), "catalog"))
    await stack.enter_async_context(beside(disk.watch(hands.data.root), "disk"))
    background = await open_background(config, hands, room, invoker, holdings, quotas, stack)
    services = control_room(config, hands, node, background.jobs, releases)
    if config.workers:
        await stack.enter_async_context(Relay(relay_dir(config), hands.catalog, invoker.run, config.max_body))
    doors = await _listen(config, services, invoker, stack)
    node.url = doors[-1].url
    leaving = await stack.enter_async_context(Leaving(dispatcher, room.starts))
    await stack.enter_async_context(releases.following(hands.catalog, node.id, leaving))
    await stack.enter_async_context(beside(observer.run(), "observer"))
    clean = cleaner(hands.nodes, hands.driver)
    await stack.enter_async_context(Heartbeat(hands.nodes, node.node_info, clean, quotas.shared_by))
    duties = [
        keep_queue(background.queue),
        bury_nodes(hands.nodes, background.queue),
        background.watch,
        releases.steering.drive,
    ]
    await stack.enter_async_context(Leader(Lease(hands.redis, "leader", node.id), duties))
    await stack.enter_async_context(beside(collector(hands, dispatcher).run(), "collector"))
    await stack.enter_async_context(beside(KeepReady(hands.catalog, hands.code).run(), "dependencies"))
    workers = Workers(config.workers, hands.data.root, for_worker(config, hands, doors[-1].port))
    stack.push_async_callback(workers.close)
    stack.push_async_callback(dispatcher.drain, config.drain_s)
    stack.callback(background.consumer.stop_taking)
    stack.push_async_callback(_shut, doors)
    stack.callback(workers.stop)
    workers.start()
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


async def _listen(config: NodeConfig, services: Services, invoker: Invoker, stack: AsyncExitStack) -> list[Door]:
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

    ways = (follow_routes(services.catalog, stack), Proxies(config.trusted_proxies))
    tls = await open_certificates(config.tls_cert, config.tls_key, stack)
    if shared := config.workers > 0:
        await refuse_taken(config.listen, "--listen")
    front = Front(gateway(anonymous=operator.loopback, sandbox=True), control.request_handler, *ways)
    server = HttpServer(front.handle, request_factory=control.request_factory)
    if config.listen.loopback:
        doors = [await open_door(server, operator, "--listen", stack, tls, shared=shared)]
    else:
        front = Front(gateway(anonymous=False, sandbox=False), results_only(control.request_handler), *ways)
        outside = HttpServer(front.handle, request_factory=control.request_factory)
        near = None if operator.loopback else tls
        doors = [
            await open_door(server, operator, "--admin-listen", stack, near),
            await open_door(outside, config.listen, "--listen", stack, tls, shared=shared),
        ]
    if shared:
        # What the processes beside us do not answer themselves they pass on to the door that they share with us.
        make = _from_workers(control.request_factory, config.listen.host)
        await open_private_door(HttpServer(front.handle, request_factory=make), relay_dir(config) / SOCKET, stack)
    return doors


def _from_workers(make: Callable[..., web.BaseRequest], listener: str) -> Callable[..., web.BaseRequest]:
    """A request factory for the private door: what it makes looks as if it had come to the worker's `listener`."""

    def factory(*arguments: Any) -> web.BaseRequest:
        request = make(*arguments)
        scheme, _, client = request.headers.get(CLIENT, "http ").partition(" ")
        request = request.clone(remote=client, scheme=scheme)
        request[LISTENER] = listener
        return request

    return factory


async def _shut(doors: Sequence[Door]) -> None:
    """Take no new connections; those that stand get their answers."""
    for door in doors:
        await door.site.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    try:
        text = Path(CONFIG_FILE).read_text() if os.path.exists(CONFIG_FILE) else None
        config = load_config(read_flags(sys.argv[1:] if arguments is None else arguments), os.environ, text)
        logs_of_node.configure(config.log_format, config.log_level)
        raise_open_files()
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
