"""An HTTP process of a node: `faas up --workers N` starts N of them with `python -m faas.worker DATA_DIR`.

It speaks HTTP on the node's own address (SO_REUSEPORT), knows the registry and the tokens, stores background calls,
and hands every other call to the node, which owns the pools. Everything else (control API, health, metrics) is passed
on. It keeps no state: when it dies, its connections are lost and nothing else.

Redis > registry, tokens > relay to the node > gateway > listener          what started last stops first
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import sys
from contextlib import AsyncExitStack
from ipaddress import ip_network
from pathlib import Path

import msgspec
import structlog
import uvloop

from faas.control.access import Access
from faas.control.catalog import Catalog
from faas.control.guesses import Guesses
from faas.control.jobs import Jobs
from faas.control.quotas import Quotas
from faas.control.tokens import Tokens
from faas.errors import FaasError
from faas.gateway.front import Front
from faas.gateway.handler import Gateway
from faas.gateway.proxies import Proxies
from faas.gateway.proxy import Proxy
from faas.gateway.relay import RelayInvoker
from faas.gateway.server import HttpServer
from faas.kinds import Address
from faas.parts import beside, durable, follow_routes, open_certificates, open_door, raise_open_files
from faas.store.connection import connect
from faas.store.queue.bells import Bells
from faas.store.queue.claims import Claims
from faas.store.queue.enqueuer import Enqueuer
from faas.store.queue.queue import Queue
from faas.store.queue.reads import Reads
from faas.store.registry import Registry
from faas.telemetry import log as logs_of_node

log = structlog.get_logger("faas.worker")

ANSWERS_S = 2.0
"""Seconds that answers of the node which are no calls, such as followed logs, may go on after SIGTERM."""
_PR_SET_PDEATHSIG = 1


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told on its standard input, as JSON: settings and credentials belong on no command line."""

    parent: int
    """Process id of the node."""
    relay: str
    """The node's relay directory."""
    redis: str
    host: str
    port: int
    trusted_proxies: list[str]
    tls_cert: str
    tls_key: str
    admin_token: str
    durability: str
    max_body: int
    drain_s: float
    log_format: str
    log_level: str

    @property
    def address(self) -> Address:
        """Where to listen."""
        return Address(self.host, self.port)


async def work(start: Start) -> int:
    """Serve until SIGTERM, or until the node is gone. Returns the exit code. Raises FaasError when it cannot start."""
    stop, lost = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        await _open(start, lost, stack)
        gc.collect()
        gc.freeze()
        log.info("an HTTP process takes calls", pid=os.getpid(), address=str(start.address))
        waits = [asyncio.create_task(event.wait()) for event in (stop, lost)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
    if lost.is_set():
        log.error("the node is gone: this HTTP process ends")
    return 1 if lost.is_set() else 0


async def _open(start: Start, lost: asyncio.Event, stack: AsyncExitStack) -> None:
    redis = await connect(start.redis)
    stack.push_async_callback(redis.aclose)
    registry = Registry(redis, lambda: connect(start.redis, blocking=True))
    catalog = Catalog(registry)
    await catalog.load()
    tokens = Tokens.with_admin(start.admin_token)
    Access(catalog, registry, tokens)  # keeps the tokens in step with the registry
    relay = Path(start.relay)
    invoker = await stack.enter_async_context(RelayInvoker(catalog, relay, lost))
    await stack.enter_async_context(beside(catalog.run(), "catalog"))
    queue = Queue(redis)
    enqueuer = await stack.enter_async_context(Enqueuer(queue))
    bells = await stack.enter_async_context(Bells(redis, lambda: connect(start.redis, blocking=True)))
    quotas = Quotas(catalog, registry, rates=False)
    jobs = Jobs(queue, Reads(redis), enqueuer, bells, durable(redis, start.durability), Claims(redis), quotas)
    proxy = await stack.enter_async_context(Proxy(relay))
    # As in the node: on loopback the operator's door and everybody's are one, elsewhere there are calls only.
    near = start.address.loopback
    gateway = Gateway(invoker, jobs, tokens, Guesses(), anonymous=near, sandbox=near, body_max=start.max_body)
    proxies = Proxies([ip_network(one) for one in start.trusted_proxies])
    front = Front(gateway, proxy.handle, follow_routes(catalog, stack), proxies)
    tls = await open_certificates(start.tls_cert, start.tls_key, stack)
    server = HttpServer(front.handle)
    await open_door(server, start.address, "--listen", stack, tls, shared=True, shutdown_s=start.drain_s)
    stack.callback(lambda: asyncio.get_running_loop().call_later(ANSWERS_S, proxy.cut))


def _die_with(parent: int) -> None:
    """Ask the kernel to end this process with the node. Exits when the node has ended before that."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> int:
    """Entry point. Returns the exit code."""
    start = msgspec.json.decode(sys.stdin.buffer.read(), type=Start)
    _die_with(start.parent)
    logs_of_node.configure(start.log_format, start.log_level)
    raise_open_files()
    try:
        return uvloop.run(work(start))
    except FaasError as error:
        log.error("an HTTP process cannot start", error=error.message, hint=error.hint)
        return 1


if __name__ == "__main__":
    sys.exit(main())
