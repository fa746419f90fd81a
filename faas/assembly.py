"""A node's parts, put together floor by floor: hands, engine room, control room. Used by `serve` alone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from redis.asyncio import Redis

from faas import __version__
from faas.api.schemas import RedisStatus
from faas.api.services import Probes, Services
from faas.bundles import BundleStore
from faas.config import NodeConfig
from faas.control.access import Access
from faas.control.apps import Apps
from faas.control.audit import Audit
from faas.control.catalog import Catalog
from faas.control.code import Code
from faas.control.collect import Collector
from faas.control.consumer import Consumer
from faas.control.dependencies import Dependencies
from faas.control.depths import QueueMetrics, watch_queues
from faas.control.functions import Functions
from faas.control.held import Holdings
from faas.control.invoke import Invoker
from faas.control.jobs import Jobs
from faas.control.push import Pushes
from faas.control.quotas import Quotas
from faas.control.releases import Releases
from faas.control.room import Rooms
from faas.control.secrets import Secrets
from faas.control.tokens import Tokens, load_admin_token
from faas.deps.installer import Installer
from faas.drivers.api import Driver
from faas.drivers.docker import DockerDriver
from faas.drivers.late import LateDriver
from faas.drivers.process import ProcessDriver
from faas.drivers.workshop import Workshop
from faas.errors import FaasError, Invalid, Unavailable
from faas.names import FunctionName
from faas.node import disk
from faas.node.capacity import Capacity
from faas.node.datadir import DataDir
from faas.node.dispatcher import Dispatcher
from faas.node.launcher import Launcher
from faas.node.node import InstanceHooks, Node
from faas.node.starts import Starts
from faas.parts import durable
from faas.store.audit import AuditLog
from faas.store.blobs import Blobs
from faas.store.connection import connect, redact
from faas.store.durability import check_durability
from faas.store.embedded import EmbeddedRedis
from faas.store.nodes import Nodes
from faas.store.queue.bells import Bells
from faas.store.queue.claims import Claims
from faas.store.queue.enqueuer import Enqueuer
from faas.store.queue.queue import Queue
from faas.store.queue.reads import Reads
from faas.store.registry import Registry
from faas.store.secrets import SecretBox, load_or_create_key
from faas.telemetry.logstore import LogStore
from faas.telemetry.metrics import Metrics
from faas.worker import Start

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Hands:
    """What touches the outside, open."""

    data: DataDir
    redis: Redis
    url: str
    """Of Redis."""
    registry: Registry
    catalog: Catalog
    bundles: BundleStore
    blobs: Blobs
    code: Code
    dependencies: Dependencies
    secrets: Secrets
    logs: LogStore
    driver: Driver
    nodes: Nodes
    metrics: Metrics

    def blocking(self) -> Awaitable[Redis]:
        """A connection of its own for blocking reads."""
        return connect(self.url, blocking=True)


@dataclass(frozen=True, slots=True)
class EngineRoom:
    """What runs functions on this node."""

    node: Node
    dispatcher: Dispatcher
    starts: Starts
    hooks: InstanceHooks


async def open_hands(config: NodeConfig, stack: AsyncExitStack) -> Hands:
    """Lock the data directory and open Redis, registry, logs and driver, each ending with `stack`. Raises FaasError."""
    data = stack.enter_context(DataDir(Path(config.data_dir)))
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
    driver = await open_driver(config, data, data.node_id(), stack)
    blobs = Blobs(redis)
    box = SecretBox(load_or_create_key(data.root, config.secret_key, _path(config.secret_key_file)))
    secrets = Secrets(catalog, registry, box)
    dependencies = await open_dependencies(data, driver, catalog, bundles, blobs, secrets, stack)
    return Hands(
        data=data,
        redis=redis,
        url=url,
        registry=registry,
        catalog=catalog,
        bundles=bundles,
        blobs=blobs,
        code=Code(bundles, blobs, dependencies.follow),
        dependencies=dependencies,
        secrets=secrets,
        logs=logs,
        driver=driver,
        nodes=Nodes(redis),
        metrics=metrics,
    )


async def open_dependencies(
    data: DataDir,
    driver: Driver,
    catalog: Catalog,
    bundles: BundleStore,
    blobs: Blobs,
    secrets: Secrets,
    stack: AsyncExitStack,
) -> Dependencies:
    """What resolves and installs packages, ending with `stack`."""

    def secrets_of(app: str, names: Iterable[str]) -> dict[str, str]:
        return secrets.open(FunctionName(app, "package index"), names)

    assert isinstance(driver, Workshop)
    installer = Installer(driver, data.root / "cache", secrets_of, os.environ)
    return await stack.enter_async_context(Dependencies(catalog, bundles, blobs, installer))


def engine_room(config: NodeConfig, hands: Hands, quotas: Quotas) -> EngineRoom:
    """Pools and what feeds them, not yet running."""
    node_id = hands.data.node_id()
    hooks = InstanceHooks(hands.logs, hands.driver)
    launcher = Launcher(
        node_id=node_id,
        root=hands.data.instances,
        driver=hands.driver,
        bundles=hands.bundles,
        fetch=hands.code.fetch,
        secrets_of=hands.secrets.open,
        hooks=hooks,
        view=lambda: hands.data.shown,
    )
    capacity = Capacity(config.memory or int(_machine_memory() * 0.8))
    starts = Starts(launcher, capacity, stems=config.stem_cells, quota_of=quotas.of)
    dispatcher = Dispatcher(starts)
    node = Node(
        id=node_id,
        name=config.node_name or socket.gethostname(),
        driver=hands.driver,
        dispatcher=dispatcher,
        starts=starts,
        capacity=capacity,
    )
    return EngineRoom(node, dispatcher, starts, hooks)


def control_room(config: NodeConfig, hands: Hands, node: Node, jobs: Jobs, releases: Releases) -> Services:
    """What the control API and the gateway may use."""
    catalog, registry, code = hands.catalog, hands.registry, hands.code
    tokens = Tokens.with_admin(load_admin_token(hands.data.root, _admin_token(config)))
    return Services(
        catalog=catalog,
        code=code,
        functions=Functions(catalog, registry, code),
        apps=Apps(catalog, registry, code),
        jobs=jobs,
        pushes=Pushes(catalog, registry, code, node, hands.driver.runtimes, hands.dependencies),
        dependencies=hands.dependencies,
        secrets=hands.secrets,
        access=Access(catalog, registry, tokens),
        audit=Audit(AuditLog(hands.redis, hands.blocking)),
        releases=releases,
        logs=hands.logs,
        runner=node,
        tokens=tokens,
        metrics=hands.metrics.registry,
        probes=probes(hands.redis, hands.url, hands.driver, hands.nodes, hands.data.root),
        version=__version__,
    )


@dataclass(frozen=True, slots=True)
class Background:
    """Background calls: what accepts them and what runs them."""

    jobs: Jobs
    consumer: Consumer
    queue: Queue
    watch: Callable[[], Awaitable[None]]
    """A leader's duty."""


async def open_background(
    config: NodeConfig,
    hands: Hands,
    room: EngineRoom,
    invoker: Invoker,
    holdings: Holdings,
    quotas: Quotas,
    stack: AsyncExitStack,
) -> Background:
    """Queue, bells and consumer, each ending with `stack`; the consumer takes jobs from now on."""
    queue, reads, metrics = Queue(hands.redis), Reads(hands.redis), QueueMetrics()
    hands.metrics.registry.register(metrics)
    catalog = hands.catalog
    rooms = Rooms(room.node.id, room.dispatcher, lambda: catalog.snapshot.functions, asyncio.get_running_loop().time)
    consumer = Consumer(room.node.id, queue, invoker, rooms, holdings, metrics.count)
    enqueuer = await stack.enter_async_context(Enqueuer(queue))
    bells = Bells(hands.redis, hands.blocking, on_work=consumer.on_work, on_cancel=consumer.on_cancel)
    await stack.enter_async_context(bells)
    await stack.enter_async_context(consumer)
    jobs = Jobs(queue, reads, enqueuer, bells, durable(hands.redis, config.durability), Claims(hands.redis), quotas)
    watch = watch_queues(reads, lambda: list(catalog.snapshot.functions), metrics)
    return Background(jobs, consumer, queue, watch)


def relay_dir(config: NodeConfig) -> Path:
    """Where the node and its HTTP processes meet."""
    return Path(config.data_dir) / "relay"


def for_worker(config: NodeConfig, hands: Hands, port: int) -> Start:
    """What an HTTP process of this node has to know; `port` is the real one."""
    return Start(
        parent=os.getpid(),
        relay=str(relay_dir(config)),
        redis=str(hands.url),
        host=config.listen.host,
        port=port,
        trusted_proxies=[str(network) for network in config.trusted_proxies],
        tls_cert=config.tls_cert,
        tls_key=config.tls_key,
        admin_token=load_admin_token(hands.data.root, _admin_token(config)),
        durability=config.durability,
        max_body=config.max_body,
        drain_s=config.drain_s,
        log_format=config.log_format,
        log_level=config.log_level,
    )


def collector(hands: Hands, dispatcher: Dispatcher) -> Collector:
    """Removes old versions and bundles nobody refers to."""

    def in_use() -> set[str]:
        pools = dispatcher.pools.values()
        return {sha for pool in pools for sha in (pool.version.code, pool.version.deps) if sha}

    return Collector(hands.catalog, hands.registry, hands.bundles, hands.blobs, in_use)


async def open_driver(config: NodeConfig, data: DataDir, node_id: str, stack: AsyncExitStack) -> Driver:
    """The driver of this data directory, entered on `stack`, with what a killed node of ours left removed.

    `auto` takes docker when an engine answers at the first start, else processes. The choice is recorded: a
    later start with the engine down waits for it instead of running functions with less isolation.

    Raises:
        Unavailable: the engine does not answer, or processes would share the node's user with the network.
    """
    recorded = data.driver()
    wanted = config.driver if config.driver != "auto" else recorded
    settle = partial(_settle, data, node_id)
    containers = DockerDriver(node_id, data.root, allow_private_networks=config.allow_private_networks)
    docker = LateDriver(containers, settle, wait=recorded == "docker")
    processes = LateDriver(ProcessDriver(node_id, data.root), settle, wait=False)
    if wanted == "process":
        driver = await stack.enter_async_context(processes)
    elif wanted == "docker":
        driver = await stack.enter_async_context(docker)
    else:
        try:
            driver = await stack.enter_async_context(docker)
        except Unavailable as missing:
            driver = await stack.enter_async_context(processes)
            log.warning("no Docker engine: functions run as processes of this machine", cause=missing.message)
    if recorded and recorded != driver.name:
        log.warning("the driver of this data directory changes", before=recorded, now=driver.name)
    _check_listener(config, driver)
    data.record_driver(driver.name)
    return driver


async def _settle(data: DataDir, node_id: str, driver: Driver, stack: AsyncExitStack) -> None:
    """What a driver that has just opened needs from us before its first start."""
    stack.enter_context(data.view(mountable=driver.capabilities.mounts))
    for found in await driver.found():
        if found.node == node_id:
            log.info("removing an instance left by a killed node", instance=found.id)
            await driver.destroy(found.id)


def _check_listener(config: NodeConfig, driver: Driver) -> None:
    if driver.capabilities.isolation == "none" and not config.listen.loopback:
        raise Unavailable(
            f"the process driver without bubblewrap does not listen on {config.listen}: functions would share "
            "the node's user with everyone who can call them",
            hint="Install a Docker engine or bubblewrap, or listen on 127.0.0.1.",
        )


def probes(redis: Redis, url: str, driver: Driver, nodes: Nodes, root: Path) -> Probes:
    """What the control API asks of Redis, the driver and the other nodes."""

    async def redis_status() -> RedisStatus:
        durability = await check_durability(redis)
        finding = durability.finding if durability.ok else f"{durability.finding} {durability.fix}"
        return RedisStatus(url=redact(url), ok=True, durable=durability.ok, finding=finding)

    async def driver_problem() -> str:
        # Whether it answers, not whether it is perfect: warnings are the doctor's.
        try:
            await driver.runtimes()
        except FaasError as error:
            return error.message
        return ""

    return Probes(
        redis=redis_status,
        driver=driver_problem,
        runtimes=driver.runtimes,
        nodes=nodes.alive,
        disk=lambda: disk.problem(root),
    )


def cleaner(nodes: Nodes, driver: Driver) -> Callable[[], Awaitable[None]]:
    """Removes instances of nodes that died on this engine: they have nobody else."""

    async def clean() -> None:
        dead = set(await nodes.dead())
        if not dead:
            return
        for found in await driver.found():
            if found.node in dead:
                await driver.destroy(found.id)

    return clean


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
