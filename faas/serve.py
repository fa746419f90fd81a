"""The keystone: the one place that names concrete classes. `python -m faas.serve [flags]` is `faas up`.

Whatever starts is a context manager on one exit stack; what started last stops first:

    data directory lock > Redis > registry > driver > logs > pools > control API and gateway > heartbeat > doors open

Stopping therefore begins with shut doors, then calls that run may end, then the cluster is told, then the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import structlog
import uvloop
from aiohttp import web

from faas import __version__
from faas.api.app import make_api
from faas.api.services import Services
from faas.assembly import cleaner, open_driver, probes
from faas.bundles import BundleStore
from faas.config import CONFIG_FILE, NodeConfig, load_config, read_flags
from faas.control.access import Access
from faas.control.apps import Apps
from faas.control.audit import Audit
from faas.control.catalog import Catalog
from faas.control.code import Code
from faas.control.functions import Functions
from faas.control.invoke import Invoker
from faas.control.push import Pushes
from faas.control.secrets import Secrets
from faas.control.tokens import Tokens, load_admin_token
from faas.drivers.api import Driver
from faas.errors import FaasError, Invalid, Unavailable
from faas.gateway.front import Front, nothing_else
from faas.gateway.handler import Gateway
from faas.gateway.server import HttpServer
from faas.ids import new_id
from faas.kinds import Address
from faas.node.capacity import Capacity
from faas.node.datadir import DataDir
from faas.node.dispatcher import Dispatcher
from faas.node.heartbeat import Heartbeat
from faas.node.launcher import Launcher
from faas.node.node import InstanceHooks, Node
from faas.node.outgoing import Outgoing
from faas.node.reaper import Reaper
from faas.node.starts import Starts
from faas.node.stems import Kind
from faas.store.audit import AuditLog
from faas.store.blobs import Blobs
from faas.store.connection import connect
from faas.store.embedded import EmbeddedRedis
from faas.store.nodes import Nodes
from faas.store.registry import Registry
from faas.store.secrets import SecretBox, load_or_create_key
from faas.telemetry import log as logs_of_node
from faas.telemetry.logstore import LogStore
from faas.telemetry.metrics import Metrics

log = structlog.get_logger("faas")

KEEP_ALIVE_S = 75.0
HEADER_MAX = 16 * 1024
"""Bytes in one line of a request's head."""
_HTTP: dict[str, Any] = {
    "access_log": None,
    "keepalive_timeout": KEEP_ALIVE_S,
    "handler_cancellation": True,
    "max_line_size": HEADER_MAX,
    "max_field_size": HEADER_MAX,
}
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
    data = stack.enter_context(DataDir(Path(config.data_dir)))
    node_id = data.node_id()
    url = config.redis or (await stack.enter_async_context(EmbeddedRedis(data.root))).url
    redis = await connect(url)
    stack.push_async_callback(redis.aclose)
    metrics = Metrics()
    metrics.build.info({"version": __version__})
    bundles = BundleStore(data.store)
    logs = await stack.enter_async_context(LogStore(data.logs))
    registry = Registry(redis, lambda: connect(url, blocking=True))
    catalog = Catalog(registry)
    await catalog.load()
    driver = await open_driver(config, data, node_id, stack)
    hooks = InstanceHooks(logs, driver)
    code = Code(bundles, Blobs(redis))
    box = SecretBox(load_or_create_key(data.root, config.secret_key, _path(config.secret_key_file)))
    secrets = Secrets(catalog, registry, box)
    launcher = Launcher(
        node_id=node_id,
        root=data.instances,
        driver=driver,
        bundles=bundles,
        fetch=code.fetch,
        secrets_of=secrets.open,
        hooks=hooks,
        view=stack.enter_context(data.view(mountable=driver.capabilities.mounts)),
    )
    capacity = Capacity(config.memory or int(_machine_memory() * 0.8))
    starts = Starts(launcher, capacity, stems=config.stem_cells)
    dispatcher = Dispatcher(starts)
    name = config.node_name or socket.gethostname()
    node = Node(id=node_id, name=name, driver=driver, dispatcher=dispatcher, starts=starts, capacity=capacity)
    nodes = Nodes(redis)
    tokens = Tokens.with_admin(load_admin_token(data.root, _admin_token(config)))
    services = Services(
        catalog=catalog,
        code=code,
        functions=Functions(catalog, registry, code),
        apps=Apps(catalog, registry, code),
        pushes=Pushes(catalog, registry, code, node, driver.runtimes),
        secrets=secrets,
        access=Access(catalog, registry, tokens),
        audit=Audit(AuditLog(redis, lambda: connect(url, blocking=True))),
        logs=logs,
        runner=node,
        tokens=tokens,
        metrics=metrics.registry,
        probes=probes(redis, url, driver, nodes),
        version=__version__,
    )
    invoker = Invoker(catalog, dispatcher, logs, metrics)
    hooks.calls = Outgoing(invoker.call_from_function, lambda: new_id("c"))
    await _run_pools(config, node, starts, driver, stack)
    stack.callback(catalog.subscribe(lambda snapshot: dispatcher.sync(snapshot.functions)))
    dispatcher.sync(catalog.snapshot.functions)
    await stack.enter_async_context(_beside(catalog.run(), "catalog"))
    doors = await _listen(config, services, invoker, stack)
    node.url = base = doors[-1].url
    await stack.enter_async_context(Heartbeat(nodes, node.node_info, cleaner(nodes, driver)))
    stack.push_async_callback(dispatcher.drain, config.drain_s)
    stack.push_async_callback(_shut, doors)
    # What start-up made lives as long as the node: the collector need not look at it again, ever.
    gc.collect()
    gc.freeze()
    print(f"ready {base}  driver={driver.name} isolation={driver.capabilities.isolation}  data={data.root}", flush=True)


async def _run_pools(config: NodeConfig, node: Node, starts: Starts, driver: Driver, stack: AsyncExitStack) -> None:
    stack.push_async_callback(starts.close, CLOSE_S)
    await stack.enter_async_context(starts.stems)
    starts.stems.use(Kind(DEFAULT_RUNTIME, "egress"))
    await stack.enter_async_context(Reaper(node_id=node.id, dispatcher=node.dispatcher, starts=starts, driver=driver))
    stack.push_async_callback(node.dispatcher.drain, 0)  # of a start that did not come to its end


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
    check = services.tokens.authenticate
    front = Front(Gateway(invoker, check, anonymous=operator.loopback, sandbox=True), control.request_handler)
    server = HttpServer(front.handle, request_factory=control.request_factory, **_HTTP)
    if config.listen.loopback:
        return [await _site(server, operator, "--listen", stack)]
    outside = Front(Gateway(invoker, check, anonymous=False, sandbox=False), nothing_else)
    return [
        await _site(server, operator, "--admin-listen", stack),
        await _site(HttpServer(outside.handle, **_HTTP), config.listen, "--listen", stack),
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
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, FaasError):
            await task


def _admin_token(config: NodeConfig) -> str:
    if not config.admin_token_file:
        return str(config.admin_token)
    try:
        token = Path(config.admin_token_file).read_text().strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise Invalid(
            f"cannot read the admin token from {config.admin_token_file}: {getattr(cause, 'strerror', None) or cause}",
            hint="Name a file that holds it, or leave --admin-token-file out: DATA_DIR/admin-token is made.",
        ) from cause
    if not token:
        raise Invalid(f"{config.admin_token_file} is empty", hint="Make a token with: openssl rand -hex 32")
    return token


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    try:
        text = Path(CONFIG_FILE).read_text() if os.path.exists(CONFIG_FILE) else None
        config = load_config(read_flags(sys.argv[1:] if arguments is None else arguments), os.environ, text)
        logs_of_node.configure(config.log_format, config.log_level)
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
