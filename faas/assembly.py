"""Parts of a node that need a choice: which driver, and what the probes ask. Used by `serve` alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog
from redis.asyncio import Redis

from faas.api.schemas import RedisStatus
from faas.api.services import Probes
from faas.config import NodeConfig
from faas.drivers.api import Driver
from faas.drivers.docker import DockerDriver
from faas.drivers.process import ProcessDriver
from faas.errors import FaasError, Unavailable
from faas.node.datadir import DataDir
from faas.store.connection import redact
from faas.store.durability import check_durability
from faas.store.nodes import Nodes

log = structlog.get_logger(__name__)


async def open_driver(config: NodeConfig, data: DataDir, node_id: str, stack: AsyncExitStack) -> Driver:
    """The driver of this data directory, entered on `stack`, with what a killed node of ours left removed.

    `auto` takes docker when an engine answers at the first start, else processes. The choice is recorded: a
    later start with the engine down fails instead of running functions with less isolation.

    Raises:
        Unavailable: the engine does not answer, or processes would share the node's user with the network.
    """
    recorded = data.driver()
    wanted = config.driver if config.driver != "auto" else recorded
    docker = DockerDriver(node_id, data.root, allow_private_networks=config.allow_private_networks)
    driver: Driver
    if wanted == "process":
        driver = await stack.enter_async_context(ProcessDriver(node_id, data.root))
    elif wanted == "docker":
        driver = await stack.enter_async_context(docker)
    else:
        try:
            driver = await stack.enter_async_context(docker)
        except Unavailable as missing:
            driver = await stack.enter_async_context(ProcessDriver(node_id, data.root))
            log.warning("no Docker engine: functions run as processes of this machine", cause=missing.message)
    if recorded and recorded != driver.name:
        log.warning("the driver of this data directory changes", before=recorded, now=driver.name)
    _check_listener(config, driver)
    data.record_driver(driver.name)
    for found in await driver.found():
        if found.node == node_id:
            log.info("removing an instance left by a killed node", instance=found.id)
            await driver.destroy(found.id)
    return driver


def _check_listener(config: NodeConfig, driver: Driver) -> None:
    if driver.capabilities.isolation == "none" and not config.listen.loopback:
        raise Unavailable(
            f"the process driver without bubblewrap does not listen on {config.listen}: functions would share "
            "the node's user with everyone who can call them",
            hint="Install a Docker engine or bubblewrap, or listen on 127.0.0.1.",
        )


def probes(redis: Redis, url: str, driver: Driver, nodes: Nodes) -> Probes:
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

    return Probes(redis=redis_status, driver=driver_problem, runtimes=driver.runtimes, nodes=nodes.alive)


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
